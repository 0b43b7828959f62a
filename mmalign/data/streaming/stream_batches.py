"""The batches of a stream, made from records as they come; numbered, so that a run resumes at any of them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from mmalign import distributed
from mmalign.data.batching.batches import PairBatches
from mmalign.data.caching.sample_cache import Samples
from mmalign.data.sources.base import Record
from mmalign.data.sources.record_stream import RecordStream
from mmalign.data.streaming.order import Consumer, endless
from mmalign.data.streaming.positives import hashed, hashed_groups
from mmalign.data.streaming.rejections import Rejections
from mmalign.data.streaming.stream_numbers import BatchNumber
from mmalign.data.validation import vet, with_names
from mmalign.errors import UserError
from mmalign.types import Batch

LOOKED_AT = 100_000
"""Records without one to train on after which reading ends."""


class StreamBatches(TorchDataset[Any]):
    """The batch of a number: a loader's worker reads on from the batch before, or starts again and skips what was read.

    Worker w of n makes the batches w, w + n, ... of its rank, as torch's loader asks for them, from its own part of the
    shards. So the batches depend on seed, epoch, number of processes and workers, not on where a run was resumed.

    Args:
        stream: The shards.
        batches: Makes a batch of the samples of a few records: (samples, groups, seed) -> `PairBatches`.
        towers: Towers that are asked for.
        samples: Makes the store of decoded samples of a list of records.
        keep: Whether a record belongs to the split that is trained on.
        positives: record, content or group.
        batch_size: Records of a batch.
        seed: Seed of order and augmentation.
        workers: Workers of the loader; 0 = this process.
        buffer: Records among which the order is shuffled.
        rejections: Counts the records that are set aside.
    """

    def __init__(
        self,
        stream: RecordStream,
        batches: Callable[[Samples, np.ndarray, int], PairBatches],
        towers: Mapping[str, bool],
        samples: Callable[[list[Record]], Samples],
        keep: Callable[[Record], bool],
        *,
        positives: str,
        batch_size: int,
        seed: int,
        workers: int,
        buffer: int,
        rejections: Rejections,
    ) -> None:
        self.stream, self.towers, self.keep, self.positives = stream, dict(towers), keep, positives
        self._batches, self._samples = batches, samples
        self.batch_size, self.seed, self.workers = batch_size, seed, max(1, workers)
        self.buffer, self.rejections = buffer, rejections
        self.rank, self.world = distributed.rank(), distributed.world_size()  # a worker has no process group
        self._next: dict[int, tuple[BatchNumber, Iterator[Record]]] = {}  # by worker

    def __getitem__(self, key: BatchNumber) -> Batch | UserError:
        """The batch; an error is returned, so that the loader raises it as it is."""
        epoch, number = key
        worker = number % self.workers
        try:
            expected, records = self._next.get(worker, (None, iter(())))
            if expected != key:
                records = self._begin(epoch, worker, skip=(number // self.workers) * self.batch_size)
            batch = self._batch(epoch, number, records)
        except UserError as error:
            self._next.pop(worker, None)
            return error
        self._next[worker] = (epoch, number + self.workers), records
        return batch

    def _begin(self, epoch: int, worker: int, skip: int) -> Iterator[Record]:
        """The worker's records from the beginning of an epoch, less those of the batches before.

        Records that were rejected in the epoch before the run was resumed are known from the log, and not decoded.
        """
        consumer = Consumer(self.rank * self.workers + worker, self.world * self.workers, self.seed, epoch)
        records = endless(self.stream, consumer, self.rejections.lose, self.buffer)
        wanted = self._wanted(records, self.rejections.known() if skip else frozenset())
        for _ in range(skip):
            next(wanted)
        return wanted

    def _wanted(self, records: Iterator[Record], known: frozenset[str]) -> Iterator[Record]:
        """Records of the split with all towers, which are not known to be rejected."""
        without = 0
        for record in map(with_names, records):
            if record.location not in known and self.keep(record) and self._complete(record):
                without = 0
                yield record
            elif (without := without + 1) >= LOOKED_AT:
                raise UserError(
                    f"--data.stream: none of {LOOKED_AT} records of one process after another is a training row with "
                    f"{' and '.join(self.towers)}; mmalign check prints what a record has"
                )

    def _complete(self, record: Record) -> bool:
        vetted = vet([record], list(self.towers), {})
        if vetted.rejected:
            self.rejections.reject(vetted.rejected[0])
        return not vetted.rejected and not vetted.incomplete

    def _batch(self, epoch: int, number: int, wanted: Iterator[Record]) -> Batch:
        records: list[Record] = []
        store = self._samples(records)
        while len(records) < self.batch_size:
            records.append(next(wanted))
            problem = store.problem(len(records) - 1)
            if problem is None:
                self.rejections.accept()
            else:
                self.rejections.reject(problem)
                store.forget(len(records) - 1)
                records.pop()
        groups = hashed_groups(records, self.positives, self.towers)
        seed = int(np.random.SeedSequence([self.seed, self.rank, number]).generate_state(1)[0])
        batch = self._batches(store, groups, seed)[epoch, np.arange(len(records))]
        return dataclasses.replace(batch, ids=torch.tensor([hashed(f"id {record.id}") for record in records]))
