"""FILIP's two scores as its paper writes them: float64, one pair of samples and one pair of tokens at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def late_interaction(a: Sequence[Matrix], b: Sequence[Matrix]) -> tuple[Matrix, Matrix]:
    """`a[i]` holds the real tokens of sample i alone, `(tokens, dim)`."""
    forth, back = np.zeros((len(a), len(b))), np.zeros((len(a), len(b)))
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            if len(left) and len(right):
                forth[i, j] = math.fsum(max(math.fsum(k * r) for r in right) for k in left) / len(left)
                back[i, j] = math.fsum(max(math.fsum(k * r) for k in left) for r in right) / len(right)
    return forth, back
