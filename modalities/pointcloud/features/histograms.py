"""Histograms as square roots of fractions, of which the inner product is the Bhattacharyya coefficient."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def histogram(values: Numbers, bins: int, low: float, high: float) -> Numbers:
    """Square roots of the fractions of the values in equal bins; values outside count in the last bins, `(bins,)`."""
    return joint_histogram((values,), (bins,), (low,), (high,))


def joint_histogram(
    columns: Sequence[Numbers], bins: Sequence[int], low: Sequence[float], high: Sequence[float]
) -> Numbers:
    """Square roots of the fractions of rows in a grid of equal bins, flattened with the last column fastest.

    Args:
        columns: Values, `(n,)` each.
        bins: Bins of each column.
        low: Least value of each column; smaller ones count in the first bin.
        high: Largest value of each column; larger ones count in the last bin.

    Example:
        >>> joint_histogram((np.array([0.1, 0.9]), np.array([0.2, 0.3])), (2, 2), (0, 0), (1, 1)) ** 2
        array([0.5, 0. , 0.5, 0. ])
    """
    index = np.zeros(len(columns[0]), dtype=np.int64)
    for values, count, least, most in zip(columns, bins, low, high, strict=True):
        bin_index = ((values - least) * (count / (most - least))).astype(np.int64).clip(0, count - 1)
        index = index * count + bin_index
    roots: Numbers = np.sqrt(np.bincount(index, minlength=int(np.prod(bins))) / len(index))
    return roots
