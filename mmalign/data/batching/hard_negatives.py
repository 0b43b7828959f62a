"""The table of similar records that `sampling.Neighbours` draws from: by a modality, or mined by a trained model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import HardNegatives, capability
from mmalign.data.batching.negatives_file import read_negatives
from mmalign.data.split import Split

NEAREST = 4
"""Factor of neighbours searched over neighbours drawn, because some will already be in a batch."""


def nearest_rows(split: Split, tower: str, groups: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The records whose samples are nearest in one tower, by each record's first sample; positives are left out.

    Args:
        split: The records among which neighbours are looked for.
        tower: The tower that is compared; records without it have no neighbours.
        groups: One integer per record of the data set; equal = positives of each other.
        count: Neighbours to look for; positives among them leave a gap.

    Returns:
        Indices into the split, `(len(split), count)`, nearest first, -1 where there is none.

    Raises:
        UserError: the tower's modality cannot compare samples.
    """
    there = [row for row, record in enumerate(split.records) if tower in record.values]
    modality = capability(split.store.modalities[tower], HardNegatives, "--data.hard_negatives")
    nearest = modality.neighbours(FirstSamples(split, there, tower), count)
    rows = np.array([*there, -1], dtype=np.int64)  # -1 indexes the last entry, which is -1
    table = np.full((len(split), count), -1, dtype=np.int64)
    table[there] = rows[nearest]
    return _without_positives(table, split, groups)


def mined_rows(split: Split, path: str, groups: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The hard negatives of each record in a file of `mmalign mine`; positives are left out.

    Args:
        split: The records.
        path: The file, see `read_negatives`.
        groups: One integer per record of the data set; equal = positives of each other.
        count: Maximum number of negatives per record; positives among them leave a gap.

    Returns:
        Indices into the split, `(len(split), count)`, hardest first, -1 where there is none.
    """
    table = read_negatives(path, [record.id for record in split.records], count)
    return _without_positives(table, split, groups)


def _without_positives(table: NDArray[np.int64], split: Split, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    own = groups[list(split.indices)]
    table[own[table] == own[:, None]] = -1
    return table


@dataclass(frozen=True)
class FirstSamples(Sequence[Any]):
    """The first sample of some records, each decoded when it is its turn: videos do not fit in memory at once.

    Args:
        split: The split.
        rows: Indices of the records in the split.
        tower: Whose samples.
    """

    split: Split
    rows: Sequence[int]
    tower: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return FirstSamples(self.split, self.rows[index], self.tower)
        return self.split.store.get(self.split.indices[self.rows[index]], self.tower)
