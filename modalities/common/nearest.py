"""The most similar other samples of each, in blocks of bounded memory."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from modalities.common.largest import largest

BLOCK = 1 << 24
"""Similarities at a time, 64 MB."""


def nearest_others(
    keys: Sequence[object], count: int, similarities: Callable[[slice], NDArray[np.float32]]
) -> NDArray[np.int64]:
    """The most similar other samples of each, nearest first; equal similarity: the lower index first.

    Args:
        keys: Hashable content of each sample, `n`; samples of equal content are no neighbours.
        count: Number of neighbours.
        similarities: Similarity of a block of samples to all, `(block, n)`; samples at 0 or below are no neighbours.
            Time grows with n squared.

    Returns:
        Indices, `(n, count)`, -1 where there are fewer.

    Example:
        >>> values = np.array([0.0, 1.0, 1.5], np.float32)
        >>> nearest_others([*"abc"], 1, lambda block: 2 - abs(values[block, None] - values)).tolist()
        [[1], [2], [1]]
    """
    nearest = np.full((len(keys), max(count, 0)), -1, np.int64)
    if len(keys) < 2 or count < 1:
        return nearest
    kinds: dict[object, int] = {}
    same = np.array([kinds.setdefault(key, len(kinds)) for key in keys])
    size = max(1, BLOCK // len(keys))
    for start in range(0, len(keys), size):
        block = slice(start, start + size)
        alike = similarities(block)
        alike[(alike <= 0) | (same[block, None] == same)] = -1
        nearest[block] = largest(alike, count)
    return nearest
