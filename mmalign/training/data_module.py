"""The data module of Lightning's trainer; `mmalign.data` itself imports no Lightning."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mmalign import distributed
from mmalign.data.batches import PairBatches, positive_groups
from mmalign.data.dataset import Dataset
from mmalign.data.hard_negatives import NEAREST, nearest_rows
from mmalign.data.loading import loader
from mmalign.data.sampling import EpochBatches, Neighbours
from mmalign.errors import UserError
from mmalign.modality import Transform


class TrainingData(Dataset, pl.LightningDataModule):
    """A `Dataset` with training and validation loaders: `prepare`, `attach` the transforms, then get the loaders."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transforms: dict[str, Transform] = {}
        self.chunks: dict[str, int] = {}
        self._resume = (0, 0)
        self._train: EpochBatches | None = None

    def attach(self, transforms: Mapping[str, Transform], chunks: Mapping[str, int] | None = None) -> None:
        """Set the transform of each tower, and the number of its items per chunk (default: all)."""
        self.transforms, self.chunks = dict(transforms), dict(chunks or {})
        for tower, transform in transforms.items():
            self.store.featurise_many(tower, transform)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training rows; `set_epoch` (called by Lightning) sets the order of each pass.

        Raises:
            UserError: fewer than two of several towers have data, or the rows do not fill one batch.
        """
        if len(self.present) < min(2, len(self.modalities)):
            missing = [tower for tower in self.modalities if tower not in self.present]
            raise UserError(
                f"training needs two towers per row, the data has {self.present}; "
                f"add {' and '.join(f'--data.columns.{tower} COLUMN' for tower in missing)}"
            )
        indices = np.asarray(self._ready("train"), dtype=np.int64)
        step = self.batch_size * distributed.world_size()
        if not len(indices):
            raise UserError("no training rows; see mmalign check for what each split holds")
        if len(indices) < (step if self.drop_last else distributed.world_size()):
            raise UserError(
                f"{len(indices)} training rows do not fill one step of {step}; "
                "lower --data.batch_size or set --data.drop_last false"
            )
        before = self._train
        near = before.neighbours if before and np.array_equal(before.indices, indices) else self._neighbours(indices)
        self._train = EpochBatches(
            indices, self.batch_size, shuffle=True, drop_last=self.drop_last, seed=self.seed, neighbours=near
        )
        self._train.resume(*(before.position if before else self._resume))
        return self._pair_loader(self._train)

    def val_dataloader(self) -> Any:
        """Batches of the validation rows, in order, deterministic; an empty list if there are none."""
        indices = np.asarray(self._ready("validation"), dtype=np.int64)
        if len(indices) < distributed.world_size():
            return []
        return self._pair_loader(EpochBatches(indices, self.batch_size, shuffle=False))

    def resume(self, epoch: int, batch: int) -> None:
        """Start the next pass of the train loader at this epoch and batch."""
        if self._train is None:
            self._resume = (epoch, batch)
        else:
            self._train.resume(epoch, batch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the train loader's next pass."""
        if self._train is not None:
            self._train.set_epoch(epoch)

    def _neighbours(self, indices: NDArray[np.int64]) -> Neighbours | None:
        if self.hard_negatives is None:
            return None
        self.split("train").require(self.hard_negatives)
        table = nearest_rows(
            self.store, self.hard_negatives, indices, self.positives, NEAREST * self.hard_negative_group_size
        )
        return Neighbours(table, self.hard_negative_fraction, self.hard_negative_group_size)

    def _pair_loader(self, batches: EpochBatches) -> DataLoader[Any]:
        missing = [tower for tower in self.present if tower not in self.transforms]
        if missing:
            raise RuntimeError(f"call attach(transforms) before the loaders; there is no transform for {missing}")
        transforms = {tower: self.transforms[tower] for tower in self.present}
        groups = positive_groups(self.all_records, self.positives)
        return loader(
            PairBatches(self.store, transforms, groups, seed=self.seed, chunks=self.chunks), batches, self.workers
        )
