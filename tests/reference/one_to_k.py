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


def grouped_one_to_k_loss(
    a: Matrix, b: Matrix, scale: float, owner: Sequence[int], groups: Sequence[int], normalise: bool
) -> float:
    """The same where rows of one group share their positives; K is the number of columns per row of a group."""
    logits = [[scale * math.fsum(x * y) for y in b] for x in a]
    columns = [list(column) for column in zip(*logits, strict=True)]
    of_column = [groups[of] for of in owner]
    k = {group: of_column.count(group) / list(groups).count(group) for group in groups}
    forth = []
    for row, group in zip(logits, groups, strict=True):
        losses = [-log_softmax(row, j) for j, of in enumerate(of_column) if of == group]
        forth.append(math.fsum(losses) / len(losses) * (1 if normalise else k[group]))
    back = []
    for column, group in zip(columns, of_column, strict=True):
        losses = [-log_softmax(column, i) for i, of in enumerate(groups) if of == group]
        back.append(math.fsum(losses) / len(losses) / (k[group] if normalise else 1))
    return (math.fsum(forth) / len(forth) + math.fsum(back) / len(back)) / 2


def log_softmax(logits: Sequence[float], place: int) -> float:
    top = max(logits)
    return logits[place] - top - math.log(math.fsum(math.exp(logit - top) for logit in logits))
