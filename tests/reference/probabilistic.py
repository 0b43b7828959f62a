"""PCME++ and ProLIP as their papers write them: float64, one pair and one dimension at a time."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Table = Sequence[Sequence[float]]


def distances(mean_a: Matrix, log_variance_a: Matrix, mean_b: Matrix, log_variance_b: Matrix) -> list[list[float]]:
    """Mean squared distance of two draws, for all pairs."""
    return [
        [
            math.fsum((m - o) ** 2 + math.exp(k) + math.exp(p) for m, k, o, p in zip(mean, lv, other, olv, strict=True))
            for other, olv in zip(mean_b, log_variance_b, strict=True)
        ]
        for mean, lv in zip(mean_a, log_variance_a, strict=True)
    ]


def pseudo_positives(logits: Table, targets: Table) -> list[list[float]]:
    """In each row, a candidate that scores no lower than a positive gets that positive's target, if it is higher."""
    return [
        [
            max(target, *(other for value, other in zip(row, wanted, strict=True) if value <= logit))
            for logit, target in zip(row, wanted, strict=True)
        ]
        for row, wanted in zip(logits, targets, strict=True)
    ]


def pcmepp_loss(distance: Table, targets: Table, scale: float, bias: float, pseudo_weight: float) -> float:
    """The three cross-entropies, each the mean over all pairs."""
    logits = [[bias - scale * value for value in row] for row in distance]
    flipped, flipped_targets = _flip(logits), _flip(targets)
    rows = _cross_entropy(logits, pseudo_positives(logits, targets))
    columns = _cross_entropy(flipped, pseudo_positives(flipped, flipped_targets))
    return 2 * _cross_entropy(logits, targets) + pseudo_weight * (rows + columns)


def prolip_loss(
    mean_a: Matrix,
    log_variance_a: Matrix,
    mean_b: Matrix,
    log_variance_b: Matrix,
    scale: float,
    bias: float,
    positive: Sequence[Sequence[bool]],
) -> float:
    """Sum over pairs of -log sigmoid(y s), over the rows of a."""
    total = 0.0
    for i, (mean, lv) in enumerate(zip(mean_a, log_variance_a, strict=True)):
        for j, (other, olv) in enumerate(zip(mean_b, log_variance_b, strict=True)):
            spread = math.fsum(math.exp(k) + math.exp(p) for k, p in zip(lv, olv, strict=True))
            logit = scale * (math.fsum(mean * other) - spread / 2) + bias
            total += _softplus(-logit if positive[i][j] else logit)
    return total / len(mean_a)


def divergence(mean: Matrix, log_variance: Matrix) -> float:
    """KL(N(mu, e^l) || N(0, 1)), the mean over all numbers."""
    values = [
        (m * m + math.exp(k) - k - 1) / 2
        for m, k in zip(mean.ravel().tolist(), log_variance.ravel().tolist(), strict=True)
    ]
    return math.fsum(values) / len(values)


def inclusion(mean_a: float, log_variance_a: float, mean_b: float, log_variance_b: float) -> float:
    """Log of int p_a^2 p_b over int p_a p_b^2 in one dimension, the integrals by the trapezoidal rule."""
    widths = (math.exp(log_variance_a / 2), math.exp(log_variance_b / 2))
    reach = abs(mean_a - mean_b) + 12 * max(widths)
    x, step = np.linspace(mean_a - reach, mean_a + reach, 2_000_001, retstep=True)
    p_a, p_b = (
        np.exp(-((x - mean) ** 2) / (2 * width**2)) / (width * math.sqrt(2 * math.pi))
        for mean, width in zip((mean_a, mean_b), widths, strict=True)
    )
    return math.log(float((p_a**2 * p_b).sum() * step)) - math.log(float((p_a * p_b**2).sum() * step))


def _cross_entropy(logits: Table, targets: Table) -> float:
    values = [
        target * _softplus(-logit) + (1 - target) * _softplus(logit)
        for row, wanted in zip(logits, targets, strict=True)
        for logit, target in zip(row, wanted, strict=True)
    ]
    return math.fsum(values) / len(values)


def _flip(table: Table) -> list[list[float]]:
    return [list(column) for column in zip(*table, strict=True)]


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
