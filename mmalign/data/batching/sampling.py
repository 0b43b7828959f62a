"""Batch sampling: a pure function of seed, epoch and rank, so that training can resume at any batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mmalign import distributed

NO_EPOCH = -1
"""Epoch of batches outside training: no random draws, no augmentation."""

Key = tuple[int, NDArray[np.int64]]
"""An epoch, and the indices of a batch's records."""


@dataclass(frozen=True)
class Neighbours:
    """Hard negatives: similar records that are drawn into one batch.

    Args:
        table: Nearest other rows of each row, nearest first, `(rows, count)`, -1 where there are fewer.
        share: Fraction of the rows, not yet in a batch, that bring their neighbours.
        size: Maximum number of rows placed together.
    """

    table: NDArray[np.int64]
    share: float = 0.5
    size: int = 4

    def together(self, order: NDArray[np.int64], batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Reorder a permutation so that similar rows follow each other within a batch.

        A group grows by the nearest remaining neighbour of any of its members, not only of its first row, so that the
        rows that follow also stay with their own nearest neighbours.

        Args:
            order: A permutation of the rows of the table.
            batch: Rows per batch; groups do not extend into the next batch.
            rng: Draws the rows that bring neighbours.

        Example:
            >>> table = np.array([[3], [2], [1], [0]])
            >>> near = Neighbours(table, share=1.0, size=2)
            >>> near.together(np.arange(4), 2, np.random.default_rng(0)).tolist()
            [0, 3, 1, 2]
        """
        leads = (rng.random(len(order)) < self.share).tolist()
        left = [True] * len(order)
        batches: list[int] = []
        for row, lead in zip(order.tolist(), leads, strict=True):
            if not left[row]:
                continue
            left[row] = False
            batches.append(row)
            first, room = len(batches) - 1, -len(batches) % batch
            for _ in range(min(self.size - 1, room) if lead else 0):
                offers = (self._next(member, left) for member in batches[first:])
                rank, near = min(offers, key=lambda offer: offer[0])  # among equal ranks the earliest member's
                if rank == self.table.shape[1]:
                    break
                left[near] = False
                batches.append(near)
        return np.array(batches, dtype=np.int64)

    def _next(self, row: int, left: list[bool]) -> tuple[int, int]:
        """Rank and index of a row's nearest remaining neighbour; the number of ranks if none remains."""
        ranked = enumerate(self.table[row].tolist())
        return next(((rank, near) for rank, near in ranked if near >= 0 and left[near]), (self.table.shape[1], -1))


class ResumableKeys(Sampler[Any]):
    """Keys of an epoch's batches; one pass can start at any row. Base of `EpochBatches` and `StreamNumbers`."""

    def __init__(self) -> None:
        self.epoch, self._first, self._begun = 0, 0, 0

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and first row of the next pass."""
        return self.epoch, self._first

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass (called by Lightning); it starts at its first row unless resumed."""
        if epoch != self.epoch:
            self.resume(epoch, 0)

    def resume(self, epoch: int, row: int) -> None:
        """Start the next pass, and only that one, at a row of the order of `epoch`, counted over all processes."""
        self.epoch, self._first, self._begun = epoch, row, row

    def _start(self) -> tuple[int, int]:
        """The epoch and first row of the pass that begins; the one after it starts at its first row.

        Called at the first batch: a loader with workers creates two iterators and uses one.
        """
        epoch, first, self._first = self.epoch, self._first, 0
        return epoch, first


class EpochBatches(ResumableKeys):
    """Batches of indices, this rank's part of each.

    A step takes `batch_size` rows per process. The last, smaller batch is divided equally among the ranks, up to one
    row; if fewer rows than processes are left, they are added to the previous batch.

    Args:
        indices: The indices to sample.
        batch_size: Rows per process and step.
        shuffle: A new order each epoch. Otherwise the given order, and epoch `NO_EPOCH`.
        drop_last: Leave out the last, smaller batch.
        seed: Seed of the order.
        neighbours: Hard negatives, by index in `indices`; used only with `shuffle`.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool = False,
        seed: int = 0,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.indices, self.batch_size, self.neighbours = indices, batch_size, neighbours
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        super().__init__()

    def __len__(self) -> int:
        """Number of batches of a full pass, resumed or not."""
        return len(self._bounds())

    def counted(self, row: int) -> int:
        """Number of batches of a pass before one that starts at this row: those of a full pass less the rest."""
        return len(self) - len(self._bounds(row))

    def row_after(self, batch: int) -> int:
        """Rows of the current pass that are seen once `batch` batches of it are counted."""
        bounds = self._bounds(self._begun)
        done = batch - self.counted(self._begun)
        return bounds[min(done, len(bounds)) - 1][1] if done > 0 and bounds else self._begun

    def __iter__(self) -> Iterator[Key]:
        epoch, first = self._start()
        order = self.indices
        if self.shuffle:
            # Four numbers: an item's generator is seeded with three, and SeedSequence pads with zeros.
            rng = np.random.default_rng((self.seed, epoch, 0, 1))
            if self.neighbours is None:
                order = rng.permutation(order)
            else:
                rows = rng.permutation(len(order))
                order = order[self.neighbours.together(rows, self.batch_size * distributed.world_size(), rng)]
        rank, world = distributed.rank(), distributed.world_size()
        for low, high in self._bounds(first):
            yield epoch if self.shuffle else NO_EPOCH, np.array_split(order[low:high], world)[rank]

    def _bounds(self, first: int = 0) -> list[tuple[int, int]]:
        """First and last row of each batch from the row `first` on."""
        world, count = distributed.world_size(), len(self.indices)
        size = self.batch_size * world
        starts, rest = list(range(first, count, size)), (count - first) % size
        if self.drop_last and rest:
            starts.pop()
            count -= rest
        elif rest < world and rest and len(starts) > 1:
            starts.pop()  # so that every rank has rows
        elif rest < world and rest and first:
            starts = []  # fewer rows than ranks are left of a resumed pass
        return list(pairwise([*starts, count])) if starts else []
