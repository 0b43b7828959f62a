"""Approximate size of samples in memory."""

import sys
from collections.abc import Mapping
from typing import Any


def nbytes(sample: Any) -> int:
    """Approximate memory of a sample in bytes.

    Example:
        >>> import numpy as np
        >>> nbytes((np.zeros((2, 3), dtype=np.uint8), b"ab"))
        8
    """
    if hasattr(sample, "nbytes"):
        return int(sample.nbytes)
    if isinstance(sample, bytes | str):
        return len(sample)
    if isinstance(sample, Mapping):
        return sum(nbytes(value) for value in sample.values())
    if isinstance(sample, list | tuple):
        return sum(nbytes(value) for value in sample)
    return sys.getsizeof(sample) + sum(nbytes(value) for value in getattr(sample, "__dict__", {}).values())
