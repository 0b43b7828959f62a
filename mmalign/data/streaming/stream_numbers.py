"""The numbers of an epoch's batches."""

from collections.abc import Iterator

from mmalign import distributed
from mmalign.data.batching.sampling import ResumableKeys

BatchNumber = tuple[int, int]
"""An epoch, and the number of a batch of this rank in it."""


class StreamNumbers(ResumableKeys):
    """The numbers of an epoch's batches: `EpochBatches` for data without indices; a resumed one begins a batch.

    Args:
        rows: Records of an epoch, over all processes.
        batch_size: Records per process and step; a last batch that is not full is left out.
    """

    def __init__(self, rows: int, batch_size: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        super().__init__()

    def __len__(self) -> int:
        return self.rows // self._size

    def counted(self, row: int) -> int:
        """Number of batches before the first one that begins at or after a row."""
        return min(len(self), -(-row // self._size))

    def row_after(self, batch: int) -> int:
        """Rows of the current pass that are seen once `batch` batches of it are counted."""
        return min(batch, len(self)) * self._size

    def __iter__(self) -> Iterator[BatchNumber]:
        epoch, first = self._start()
        for number in range(self.counted(first), len(self)):
            yield epoch, number

    @property
    def _size(self) -> int:
        return self.batch_size * distributed.world_size()
