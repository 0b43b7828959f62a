"""The numbers of an epoch's batches."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

from mmalign import distributed

BatchNumber = tuple[int, int]
"""An epoch, and the number of a batch of this rank in it."""


class StreamNumbers(Sampler[Any]):
    """The numbers of an epoch's batches: `EpochBatches` for data without indices.

    Args:
        rows: Records of an epoch, over all processes.
        batch_size: Records per process and step; a last batch that is not full is left out.
    """

    def __init__(self, rows: int, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.epoch, self._first, self._begun = 0, 0, 0

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and first row of the next pass."""
        return self.epoch, self._first

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass (called by Lightning); it starts at its first row unless resumed."""
        if epoch != self.epoch:
            self.epoch, self._first, self._begun = epoch, 0, 0

    def resume(self, epoch: int, row: int) -> None:
        """Start the next pass, and only that one, at the first batch that begins at or after a row."""
        self.epoch, self._first, self._begun = epoch, row, row

    def __len__(self) -> int:
        return self.rows // self._size

    def counted(self, row: int) -> int:
        """Number of batches before the first one that begins at or after a row."""
        return min(len(self), -(-row // self._size))

    def row_after(self, batch: int) -> int:
        """Rows of the current pass that are seen once `batch` batches of it are counted."""
        return min(batch, len(self)) * self._size

    def __iter__(self) -> Iterator[BatchNumber]:
        epoch, first, self._first = self.epoch, self._first, 0
        for number in range(self.counted(first), len(self)):
            yield epoch, number

    @property
    def _size(self) -> int:
        return self.batch_size * distributed.world_size()
