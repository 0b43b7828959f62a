"""The 1-to-K contrastive loss as CCRK writes it, for ragged K: float64, one pair at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def one_to_k_loss(a: Matrix, b: Matrix, scale: float, owner: Sequence[int], normalise: bool) -> float:
    """Half of both directions; each row's terms divided by its own K where `normalise`."""
    logits = [[scale * math.fsum(x * y) for y in b] for x in a]
    columns = [list(column) for column in zip(*logits, strict=True)]
    forth = []
    for i, row in enumerate(logits):
        mine = [j for j, of in enumerate(owner) if of == i]
        if mine:
            forth.append(-math.fsum(log_softmax(row, j) for j in mine) / (len(mine) if normalise else 1))
    back = [-log_softmax(columns[j], of) / (list(owner).count(of) if normalise else 1) for j, of in enumerate(owner)]
    return (math.fsum(forth) / len(forth) + math.fsum(back) / len(back)) / 2


def log_softmax(logits: Sequence[float], place: int) -> float:
    top = max(logits)
    return logits[place] - top - math.log(math.fsum(math.exp(logit - top) for logit in logits))
