"""The streamed training records of a data set: number of records of an epoch, and its batches."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmalign import distributed
from mmalign.data.batching.batches import PairBatches
from mmalign.data.caching.sample_cache import Samples
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.data.splits import assign
from mmalign.data.streaming.head import StreamHead
from mmalign.data.streaming.rejections import Rejections
from mmalign.data.streaming.stream_batches import StreamBatches
from mmalign.errors import UserError
from mmalign.modality import Transform


class TrainingStream:
    """The stream of a data set that is read as one.

    Args:
        data: Opened with `stream`; its records are the first ones of the stream.
        transforms: Tower -> fitted transform.
        chunks: Tower -> number of its items that are collated at once.
        log: File of rejected records.

    Raises:
        UserError: the number of records of an epoch is neither set nor known.
    """

    def __init__(
        self, data: Dataset, transforms: Mapping[str, Transform], chunks: Mapping[str, int], log: Path | None
    ) -> None:
        if not isinstance(data.source, StreamHead):
            raise TypeError("the data set has no stream: open it with DataConfig(stream=True)")
        self.data, self.transforms, self.chunks = data, dict(transforms), dict(chunks)
        self.stream, self.log = data.source.stream, log
        self.rows = data.config.stream_epoch or self._estimated_rows()

    def batches(self, batch_size: int) -> StreamBatches:
        """The batches of this process.

        Args:
            batch_size: Records of a batch.
        """
        data, config = self.data, self.data.config
        texts = {tower: modality.value_is_sample for tower, modality in data.modalities.items()}
        keep = partial(
            _is_training,
            has_splits=any(record.split for record in data.records),
            texts=texts,
            validation=config.validation,
            test=config.test,
            seed=config.split_seed,
        )
        return StreamBatches(
            self.stream,
            self._pairs,
            {tower: texts[tower] for tower in data.towers},
            self._samples,
            keep,
            positives=config.positives,
            batch_size=batch_size,
            seed=config.seed,
            workers=config.workers,
            buffer=config.stream_buffer,
            rejections=Rejections(self.log, config.max_rejected, len(self.stream.shards)),
        )

    def _estimated_rows(self) -> int:
        rows = self.stream.rows()
        if rows is None:
            raise UserError("--data.stream_epoch: expected a number of records, which is not known of these shards")
        kept = len(self.data.split("train")) / max(1, len(self.data.records))  # without other splits and rejected ones
        rows = max(1, round(rows * kept))
        if distributed.is_first():
            print(f"an epoch is {rows} streamed records, an estimate; --data.stream_epoch sets it", flush=True)
        return rows

    def _samples(self, records: list[Record]) -> Samples:
        modalities = {tower: self.data.modalities[tower] for tower in self.data.towers}
        return Samples(self.data.source, records, modalities, cache_bytes=float("inf"))

    def _pairs(self, samples: Samples, groups: NDArray[np.int64], seed: int) -> PairBatches:
        config = self.data.config
        return PairBatches(
            samples, self.transforms, groups, seed=seed, chunks=self.chunks, draw=config.draw, views=config.views
        )


def _is_training(
    record: Record, *, has_splits: bool, texts: Mapping[str, bool], validation: float, test: float, seed: int
) -> bool:
    """Whether a record is in the split train, by its own split or a hash of its group, file or id."""
    if has_splits and not record.split:
        return False
    return assign([record], texts, validation=validation, test=test, seed=seed) == ["train"]
