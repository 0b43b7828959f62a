"""The table of near rows that `sampling.Neighbours` draws from, by way of a modality."""

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import HardNegatives, capability
from mmalign.data.batches import positive_groups
from mmalign.data.sample_cache import Samples

NEAREST = 4
"""How many times as many neighbours are looked for as are brought along: some will be in a batch already."""


def nearest_rows(
    samples: Samples, tower: str, indices: NDArray[np.int64], positives: str, count: int
) -> NDArray[np.int64]:
    """The rows whose samples are nearest on a tower, by each row's first sample; positives of a row are left out.

    Args:
        samples: Of all records.
        tower: The tower that is compared; rows without it have no neighbours.
        indices: The records among which neighbours are looked for.
        positives: Which rows are positives of each other, see `positive_groups`.
        count: Neighbours to look for; positives among them leave a gap.

    Returns:
        Indices into `indices`, `(len(indices), count)`, nearest first, -1 where there is none.

    Raises:
        UserError: the tower's modality cannot compare samples.
    """
    there = [row for row, index in enumerate(indices) if tower in samples.records[index].values]
    modality = capability(samples.modalities[tower], HardNegatives, "--data.hard_negatives")
    found = modality.neighbours([samples.get(int(indices[row]), tower) for row in there], count)
    rows = np.array([*there, -1], dtype=np.int64)  # -1 is the last one, and stays -1
    table = np.full((len(indices), count), -1, dtype=np.int64)
    table[there] = rows[found]
    own = positive_groups(samples.records, positives)[indices]
    table[own[table] == own[:, None]] = -1
    return table
