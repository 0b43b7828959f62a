"""The contrastive losses as their papers write them: float64, one pair at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def clip_loss(a: Matrix, b: Matrix, scale: float, groups_a: Sequence[int], groups_b: Sequence[int]) -> float:
    """Mean over both directions of the cross-entropy to an even spread over the positives."""
    forth = _direction(a, b, scale, groups_a, groups_b)
    back = _direction(b, a, scale, groups_b, groups_a)
    return (forth + back) / 2


def _direction(a: Matrix, b: Matrix, scale: float, groups_a: Sequence[int], groups_b: Sequence[int]) -> float:
    losses = []
    for query, group in zip(a, groups_a, strict=True):
        positives = [j for j, other in enumerate(groups_b) if other == group]
        if not positives:
            continue
        logits = [scale * math.fsum(query * candidate) for candidate in b]
        top = max(logits)
        normaliser = top + math.log(math.fsum(math.exp(logit - top) for logit in logits))
        losses.append(-math.fsum(logits[j] - normaliser for j in positives) / len(positives))
    return math.fsum(losses) / len(losses) if losses else 0.0


def siglip_loss(
    a: Matrix, b: Matrix, scale: float, bias: float, groups_a: Sequence[int], groups_b: Sequence[int]
) -> float:
    """Sum over pairs of -log sigmoid(y z), over the rows of a."""
    total = 0.0
    for query, group in zip(a, groups_a, strict=True):
        for candidate, other in zip(b, groups_b, strict=True):
            sign = 1.0 if group == other else -1.0
            total += _softplus(-sign * (scale * math.fsum(query * candidate) + bias))
    return total / max(len(a), 1)


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
