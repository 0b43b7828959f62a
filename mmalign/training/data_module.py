"""The data module of Lightning's trainer; `mmalign.data` itself imports no Lightning."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from mmalign import distributed
from mmalign.data.batching.batches import PairBatches
from mmalign.data.batching.hard_negatives import NEAREST, mined_rows, nearest_rows
from mmalign.data.batching.loading import loader
from mmalign.data.batching.sampling import EpochBatches, Neighbours
from mmalign.data.dataset import Dataset
from mmalign.data.streaming.stream_numbers import StreamNumbers
from mmalign.data.streaming.training_stream import TrainingStream
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.types import Batch

_LOG = logging.getLogger("mmalign")


class TrainingData(pl.LightningDataModule):
    """Loaders of training and validation.

    Args:
        data: Read; at least the splits train and validation.
        transforms: Tower -> fitted transform.
        chunks: Tower -> number of its items that are collated at once; default: the whole batch.
        rejected: File to which records are added that a stream rejects while training.

    Attributes:
        rows: Number of training records, or those of an epoch of a stream.
    """

    def __init__(
        self,
        data: Dataset,
        transforms: Mapping[str, Transform],
        chunks: Mapping[str, int] | None = None,
        *,
        rejected: Path | None = None,
    ) -> None:
        super().__init__()
        self.data, self.chunks = data, dict(chunks or {})
        self.transforms = {tower: transforms[tower] for tower in data.towers}
        for tower, transform in self.transforms.items():
            data.store.featurise_many(tower, transform)
        self.stream = TrainingStream(data, self.transforms, self.chunks, rejected) if data.config.stream else None
        self.rows = len(data.split("train")) if self.stream is None else self.stream.rows
        self._resume = (0, 0)
        self._train: EpochBatches | StreamNumbers | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training records; `set_epoch` (called by Lightning) sets the order of each pass.

        Raises:
            UserError: fewer than two of several towers have data, or there are fewer records than processes.
        """
        data, config = self.data, self.data.config
        if len(data.towers) < min(2, len(data.modalities)):
            missing = [tower for tower in data.modalities if tower not in data.towers]
            raise UserError(
                f"training needs two towers per row, the data has {list(data.towers)}; "
                f"add {' and '.join(f'--data.columns.{tower} COLUMN' for tower in missing)}"
            )
        rows, processes = self.rows, distributed.world_size()
        if not rows:
            raise UserError("no training rows; see mmalign check for what each split holds")
        if rows < processes:
            raise UserError(f"{rows} training rows for {processes} processes; lower --trainer.devices")
        if self.batch_size < config.batch_size and distributed.is_first():
            print(
                f"{rows} training rows do not fill one step of {config.batch_size * processes}: --data.batch_size is "
                f"lowered to {self.batch_size}",
                flush=True,
            )
        for setting in self._without_alternatives():
            _LOG.warning("--data.%s has no effect: every training record has one alternative", setting)
        before = self._train
        position = before.position if before else self._resume
        if self.stream is not None:
            self._train = numbers = StreamNumbers(rows, self.batch_size)
            numbers.resume(*position)
            return loader(self.stream.batches(self.batch_size), numbers, config.workers, pin=self._pinned)
        neighbours = before.neighbours if isinstance(before, EpochBatches) else self._neighbours()
        self._train = batches = self._batches(neighbours)
        batches.resume(*position)
        return self._pair_loader(batches)

    def val_dataloader(self) -> Any:
        """Batches of the validation records, in order, deterministic; an empty list if there are none."""
        indices = np.asarray(self.data.split("validation").indices, dtype=np.int64)
        if len(indices) < distributed.world_size():
            return []
        return self._pair_loader(EpochBatches(indices, self.data.config.batch_size, shuffle=False))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch without waiting, if its memory allows it."""
        return batch.to(device, non_blocking=batch.is_pinned)

    def resume(self, epoch: int, row: int) -> None:
        """Start the next pass of the train loader at a row of this epoch's order, counted over all processes."""
        if self._train is None:
            self._resume = (epoch, row)
        else:
            self._train.resume(epoch, row)

    def batches_before(self, row: int) -> int:
        """Number of batches of an epoch that is resumed at this row before the resumed ones."""
        if self._train is None and self.stream is not None:
            return StreamNumbers(self.rows, self.batch_size).counted(row)
        return (self._train or self._batches()).counted(row)

    def rows_seen(self, batch: int) -> int:
        """Rows of the current epoch that are seen once `batch` batches are counted; 0 at its end, as at its start."""
        return self._train.row_after(batch) if self._train is not None and batch else 0

    @property
    def batch_size(self) -> int:
        """Rows of a step and process: those of the configuration, or fewer if there are too few for a full step."""
        config, rows = self.data.config, self.rows
        full = rows >= config.batch_size * distributed.world_size()
        if full or not (config.drop_last or self.stream is not None):
            return config.batch_size
        return max(1, rows // distributed.world_size())

    @property
    def rows_per_step(self) -> int:
        """Rows of a step, over all processes."""
        return self.batch_size * distributed.world_size()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the train loader's next pass."""
        if self._train is not None:
            self._train.set_epoch(epoch)

    def _batches(self, neighbours: Neighbours | None = None) -> EpochBatches:
        indices, config = np.asarray(self.data.split("train").indices, dtype=np.int64), self.data.config
        return EpochBatches(
            indices,
            self.batch_size,
            shuffle=True,
            drop_last=config.drop_last,
            seed=config.seed,
            neighbours=neighbours,
        )

    def _without_alternatives(self) -> list[str]:
        """Settings that draw among the alternatives of a tower of which no training record has several."""
        records, config = self.data.split("train").records, self.data.config
        settings = {f"draw.{tower}": tower for tower, number in (config.draw or {}).items() if number != 1}
        settings |= {f"views.{tower}": tower for tower, how in (config.views or {}).items() if how == "alternative"}
        return [
            name for name, tower in settings.items() if all(len(record.values.get(tower, ())) < 2 for record in records)
        ]

    def _neighbours(self) -> Neighbours | None:
        config = self.data.config
        train, count = self.data.split("train"), NEAREST * config.hard_negative_group_size
        if config.neighbours is not None:
            table = mined_rows(train, config.neighbours, self.data.groups, count)
        elif config.hard_negatives is not None:
            train.require(config.hard_negatives)
            table = nearest_rows(train, config.hard_negatives, self.data.groups, count)
        else:
            return None
        return Neighbours(table, config.hard_negative_fraction, config.hard_negative_group_size)

    def _pair_loader(self, batches: EpochBatches) -> DataLoader[Any]:
        data, config = self.data, self.data.config
        pairs = PairBatches(
            data.store,
            self.transforms,
            data.groups,
            seed=config.seed,
            chunks=self.chunks,
            draw=config.draw,
            views=config.views,
        )
        return loader(pairs, batches, config.workers, pin=self._pinned)

    @property
    def _pinned(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
