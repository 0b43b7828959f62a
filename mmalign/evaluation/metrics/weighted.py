"""Metrics of weighted rows, computed for all bootstrap draws at once.

A bootstrap draw is a weight per row: how often the row was drawn. Each function sorts once and takes all draws as the
rows of one matrix, so that a thousand draws cost a few passes over the data. Without weights every row counts once.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def once(rows: int) -> Floats:
    """Weights that count every row once, `(1, rows)`."""
    return np.ones((1, rows))


def auroc(truth: Bools, scores: Floats, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counting half.

    Args:
        truth: `(n,)`, True = positive.
        scores: `(n,)`, higher = more positive.
        weights: `(draws, n)`, how often each row counts; default: once.

    Returns:
        `(draws,)`; NaN where a draw lacks one of the two outcomes.

    Example:
        >>> auroc(np.array([True, False, True, False]), np.array([0.9, 0.1, 0.5, 0.5]))
        array([0.875])
    """
    hits, false = _curve(truth, scores, weights)
    before = np.concatenate([np.zeros((len(hits), 1)), hits[:, :-1]], axis=1)
    gained = np.diff(false, axis=1, prepend=0.0)
    return _ratio((gained * (hits + before)).sum(axis=1) / 2, hits[:, -1] * false[:, -1])


def average_precision(truth: Bools, scores: Floats, weights: Floats | None = None) -> Floats:
    """Area under the precision-recall curve, `sum_i (R_i - R_{i-1}) P_i` over distinct scores; as `auroc`.

    Example:
        >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.1])).round(4)
        array([0.8333])
    """
    hits, false = _curve(truth, scores, weights)
    called = hits + false
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    area = _ratio((np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1), hits[:, -1])
    return np.where(false[:, -1] > 0, area, np.nan)


def balanced_accuracy(truth: Bools, predicted: Bools, weights: Floats | None = None) -> Floats:
    """Mean of sensitivity and specificity, `(draws,)`; NaN where a draw lacks one of the two outcomes."""
    weights = once(len(truth)) if weights is None else weights
    sensitivity = _ratio(weights @ (truth & predicted), weights @ truth)
    specificity = _ratio(weights @ (~truth & ~predicted), weights @ ~truth)
    return (sensitivity + specificity) / 2


def calibration_error(confidence: Floats, right: Bools, weights: Floats | None = None, *, bins: int = 15) -> Floats:
    """Expected calibration error: `sum over bins of (fraction of rows) x |accuracy - mean confidence|`.

    Bins of equal width, L1 (Naeini et al. 2015; Guo et al. 2017, eq. 3). A confidence of exactly 1 has its own bin.

    Args:
        confidence: Probability of the predicted class, `(n,)` in [0, 1].
        right: `(n,)`, True = the prediction is correct.
        weights: `(draws, n)`, how often each row counts; default: once.
        bins: Number of bins.

    Returns:
        `(draws,)`.

    Example:
        >>> calibration_error(np.array([0.9, 0.9, 0.6]), np.array([True, False, True])).round(4)
        array([0.4])
    """
    weights = once(len(right)) if weights is None else weights
    confidence = np.minimum(confidence, 1.0)  # a softmax may exceed 1 by one ulp
    index = np.searchsorted(np.linspace(0.0, 1.0, bins + 1), confidence, side="right") - 1
    member = (index[:, None] == np.arange(bins + 1)).astype(np.float64)
    gap = weights @ (member * right[:, None]) - weights @ (member * confidence[:, None])
    return np.asarray(np.abs(gap).sum(axis=1) / weights.sum(axis=1))


def mean(values: Floats, weights: Floats | None = None) -> Floats:
    """Mean of `values` `(n,)` by draw, `(draws,)`; NaN where a draw has no row."""
    weights = once(len(values)) if weights is None else weights
    return _ratio(weights @ values, weights.sum(axis=1))


def r_squared(truth: Floats, predicted: Floats, weights: Floats | None = None) -> Floats:
    """Coefficient of determination, `1 - sum (y - f)^2 / sum (y - mean y)^2`, `(draws,)`."""
    weights = once(len(truth)) if weights is None else weights
    centre = mean(truth, weights)
    # From the whole mean: two large squares would cancel.
    squares = mean((truth - truth.mean()) ** 2, weights)
    spread = squares - (centre - truth.mean()) ** 2
    spread = np.where(spread > 1e-12 * np.maximum(squares, truth.mean() ** 2), spread, 0.0)
    return 1 - _ratio(mean((truth - predicted) ** 2, weights), spread)


def spearman(a: Floats, b: Floats, weights: Floats | None = None) -> Floats:
    """Spearman rank correlation with average ranks for ties, `(draws,)`; NaN where one variable is constant.

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0]))
        array([1.])
    """
    weights = once(len(a)) if weights is None else weights
    first, second = _middle_ranks(a, weights), _middle_ranks(b, weights)
    total = weights.sum(axis=1, keepdims=True)
    first, second = (ranks - (weights * ranks).sum(axis=1, keepdims=True) / total for ranks in (first, second))
    products = [(weights * x * y).sum(axis=1) for x, y in ((first, second), (first, first), (second, second))]
    # The variance of a constant variable is zero up to rounding.
    tiny = 1e-9 * np.maximum(1.0, total[:, 0] ** 2)
    spread = np.where((products[1] > tiny) & (products[2] > tiny), products[1] * products[2], 0.0)
    return _ratio(products[0], np.sqrt(spread))


def with_both(truth: Bools) -> Bools:
    """Whether each class has both positives and negatives: `(n, classes)` -> `(classes,)`."""
    return np.asarray(truth.any(axis=0) & ~truth.all(axis=0))


def over_classes(columns: Floats) -> Floats:
    """Mean over the last axis, NaN ignored; NaN where all are."""
    known = ~np.isnan(columns)
    return _ratio(np.where(known, columns, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def best_threshold(truth: Bools, scores: Floats) -> float:
    """The threshold with the highest balanced accuracy, midway between two scores; `score > threshold` = positive.

    Raises:
        ValueError: positives or negatives are missing.

    Example:
        >>> best_threshold(np.array([True, True, False, False]), np.array([0.9, 0.8, 0.2, 0.1]))
        0.5
    """
    if truth.all() or not truth.any():
        raise ValueError("a threshold needs positives and negatives")
    hits, false = (column[0] for column in _curve(truth, scores, None))
    distinct = np.unique(scores)[::-1]
    reached = int(np.argmax(hits / hits[-1] - false / false[-1]))
    if reached + 1 == len(distinct):  # everything is predicted positive
        return float(np.nextafter(distinct[-1], -np.inf))
    return float((distinct[reached] + distinct[reached + 1]) / 2)


def _curve(truth: Bools, scores: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """Positives and negatives reached at each distinct score, from the highest down: `(draws, distinct)` each."""
    weights = once(len(truth)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    ordered = weights[:, order]
    reached = ordered.cumsum(axis=1)[:, ends]
    hits = (ordered * truth[order]).cumsum(axis=1)[:, ends]
    return hits, reached - hits


def _middle_ranks(values: Floats, weights: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    new = np.append(True, np.diff(values[order]) > 0)
    size = np.add.reduceat(weights[:, order], np.flatnonzero(new), axis=1)
    index = np.empty(len(values), dtype=np.int64)
    index[order] = new.cumsum() - 1
    ranks: Floats = size.cumsum(axis=1) - size + (size + 1) / 2
    return ranks[:, index]


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0))
