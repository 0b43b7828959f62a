"""The table of near rows that `sampling.Neighbours` draws from, by way of a modality."""

import numpy as np
from numpy.typing import NDArray

from mmalign.capabilities import HardNegatives, capability
from mmalign.data.batches import positive_groups
from mmalign.data.sample_cache import Samples

NEAREST = 4
"""How many times as many neighbours are looked for as are brought along: some will be in a batch already."""


def nearest_rows(
    samples: Samples, side: str, places: NDArray[np.int64], positives: str, count: int
) -> NDArray[np.int64]:
    """The rows whose samples are nearest on a side, by each row's first sample; positives of a row are left out.

    Args:
        samples: Of all records.
        side: The side that is compared; rows without it have no neighbours.
        places: The records among which neighbours are looked for.
        positives: Which rows are positives of each other, see `positive_groups`.
        count: Neighbours to look for; positives among them leave a gap.

    Returns:
        Indices into `places`, `(len(places), count)`, nearest first, -1 where there is none.

    Raises:
        UserError: the side's modality cannot compare samples.
    """
    there = [row for row, place in enumerate(places) if side in samples.records[place].values]
    modality = capability(samples.modalities[side], HardNegatives, "--data.hard_negatives")
    found = modality.neighbours([samples.get(int(places[row]), side) for row in there], count)
    rows = np.array([*there, -1], dtype=np.int64)  # -1 is the last one, and stays -1
    table = np.full((len(places), count), -1, dtype=np.int64)
    table[there] = rows[found]
    own = positive_groups(samples.records, positives)[places]
    table[own[table] == own[:, None]] = -1
    return table
