"""The largest values of each row, in a defined order."""

import numpy as np
from numpy.typing import NDArray


def largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the largest values of each row, the lower index first among equal ones; -1 for values below 0.

    Args:
        values: `(rows, width)`.
        count: Indices of each row.

    Example:
        >>> largest(np.array([[0.5, 1.0, -2.0, 0.5]], np.float32), 2).tolist()
        [[1, 0]]
    """
    rows, width = values.shape
    indices = np.full((rows, count), -1, np.int64)
    last = max(width - count, 0)
    # The value is deterministic, but a partition's choice among equal ones is not.
    least = np.maximum(np.partition(values, last, axis=1)[:, last], 0)
    for row in range(rows):
        columns = np.flatnonzero(values[row] >= least[row])
        columns = columns[np.argsort(-values[row, columns], kind="stable")][:count]
        indices[row, : len(columns)] = columns
    return indices
