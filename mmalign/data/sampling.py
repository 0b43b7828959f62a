"""Which rows make which batch: a pure function of seed, epoch and rank, so that any batch can be resumed at."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mmalign import distributed

NO_EPOCH = -1
"""The epoch of batches that are not for training: nothing is drawn, nothing augmented."""

Key = tuple[int, NDArray[np.int64]]
"""An epoch, and the indices of a batch's records."""


@dataclass(frozen=True)
class Neighbours:
    """Which rows are drawn into one batch because they are alike.

    Args:
        table: Of each row the nearest others, nearest first, `(rows, count)`, -1 where there are fewer.
        share: Of the rows that are not yet in a batch when their turn comes, how many bring others along.
        size: Rows that are then together, at most.
    """

    table: NDArray[np.int64]
    share: float = 0.5
    size: int = 4

    def together(self, order: NDArray[np.int64], batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """That order with near rows moved up behind those that bring them, and into the same batch.

        A company grows by the row that is next nearest to some member of it: not by the leader's neighbours alone, or
        each row that follows would be torn from its own nearest.

        Args:
            order: A permutation of the rows of the table.
            batch: Rows of a batch; no row is brought that would fall into the next one.
            rng: Draws which rows bring others.

        Example:
            >>> table = np.array([[3], [2], [1], [0]])
            >>> near = Neighbours(table, share=1.0, size=2)
            >>> near.together(np.arange(4), 2, np.random.default_rng(0)).tolist()
            [0, 3, 1, 2]
        """
        leads = (rng.random(len(order)) < self.share).tolist()
        left = [True] * len(order)
        found: list[int] = []
        for row, lead in zip(order.tolist(), leads, strict=True):
            if not left[row]:
                continue
            left[row] = False
            found.append(row)
            first, room = len(found) - 1, -len(found) % batch
            for _ in range(min(self.size - 1, room) if lead else 0):
                offers = (self._next(member, left) for member in found[first:])
                rank, near = min(offers, key=lambda offer: offer[0])  # of equal ones the earliest member's
                if rank == self.table.shape[1]:
                    break
                left[near] = False
                found.append(near)
        return np.array(found, dtype=np.int64)

    def _next(self, row: int, left: list[bool]) -> tuple[int, int]:
        """The rank and the index of a row's nearest that is left; the number of ranks where none is."""
        ranked = enumerate(self.table[row].tolist())
        return next(((rank, near) for rank, near in ranked if near >= 0 and left[near]), (self.table.shape[1], -1))


class EpochBatches(Sampler[Any]):
    """Batches of indices, this rank's share of each.

    A step takes `batch_size` rows a process. Of the last, smaller one the ranks take equal shares, give or take a
    row; where there are fewer rows left than processes, they join the batch before.

    Args:
        indices: What to draw from.
        batch_size: Rows a process and step.
        shuffle: A new order each epoch. Without: the given order, and epoch `NO_EPOCH`.
        drop_last: Leave out the last, smaller batch.
        seed: Of the order.
        neighbours: Rows, by their index in `indices`, that are drawn together where there is an order to draw.
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
        self.epoch, self._start = 0, 0

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and first batch of the next pass."""
        return self.epoch, self._start

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next pass (Lightning calls this); it starts at its first batch unless resumed."""
        if epoch != self.epoch:
            self.epoch, self._start = epoch, 0

    def resume(self, epoch: int, batch: int) -> None:
        """Let the next pass, and only that, be `epoch` from batch `batch` on."""
        self.epoch, self._start = epoch, batch

    def __len__(self) -> int:
        """Batches of a whole pass, resumed or not: what a trainer counts against."""
        return len(self._bounds())

    def __iter__(self) -> Iterator[Key]:
        # The start is taken with the first batch: a loader with workers asks for two iterators and uses one.
        epoch, start, self._start = self.epoch, self._start, 0
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
        for low, high in self._bounds()[start:]:
            yield epoch if self.shuffle else NO_EPOCH, np.array_split(order[low:high], world)[rank]

    def _bounds(self) -> list[tuple[int, int]]:
        world, count = distributed.world_size(), len(self.indices)
        size = self.batch_size * world
        starts = list(range(0, count, size))
        if self.drop_last and count % size:
            starts.pop()
            count -= count % size
        elif len(starts) > 1 and count % size and count % size < world:
            starts.pop()  # so that no rank goes without
        return list(pairwise([*starts, count]))
