"""Metrics of weights over the units of a sample, against a region of these units."""

from collections.abc import Sequence

import numpy as np

from mmalign.evaluation.metrics.weighted import Bools, Floats, auroc


def pointing(weights: Floats, inside: Bools) -> float:
    """Fraction of the units of largest weight that lie in the region; 0 where no unit has weight.

    Source: the pointing game of Zhang et al., ECCV 2016, with ties shared.

    Args:
        weights: `(units,)`, at least 0.
        inside: `(units,)`, True = in the region.

    Example:
        >>> pointing(np.array([0.2, 0.5, 0.5]), np.array([False, True, False]))
        0.5
    """
    largest = weights.max(initial=0.0)
    return float(inside[weights >= largest * (1 - 1e-6)].mean()) if largest > 0 else 0.0


def ranking(weights: Floats, inside: Bools) -> float:
    """Probability that a unit of the region has a larger weight than one outside, ties counting half.

    Args:
        weights: `(units,)`.
        inside: `(units,)`, some True and some False.

    Example:
        >>> ranking(np.array([0.2, 0.5, 0.5]), np.array([False, True, False]))
        0.75
    """
    return float(auroc(inside, weights)[0])


def mean_of(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Means of the first and of the second values; NaN without pairs."""
    if not pairs:
        return float("nan"), float("nan")
    first, second = np.mean(pairs, axis=0)
    return float(first), float(second)
