"""Areas, shares and errors of weighted rows, for every bootstrap draw at once.

A draw with replacement is a weight a row: how often it was drawn. Each function sorts once and takes all draws as the
rows of one matrix, so that a thousand of them cost a few passes over the data. Without weights every row counts once.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def once(rows: int) -> Floats:
    """The weights of the data as they are, `(1, rows)`."""
    return np.ones((1, rows))


def auroc(truth: Bools, scores: Floats, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

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
    said = hits + false
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    area = _ratio((np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1), hits[:, -1])
    return np.where(false[:, -1] > 0, area, np.nan)


def balanced_accuracy(truth: Bools, said: Bools, weights: Floats | None = None) -> Floats:
    """Mean of sensitivity and specificity, `(draws,)`; NaN where a draw lacks one of the two outcomes."""
    weights = once(len(truth)) if weights is None else weights
    sensitivity = _ratio(weights @ (truth & said), weights @ truth)
    specificity = _ratio(weights @ (~truth & ~said), weights @ ~truth)
    return (sensitivity + specificity) / 2


def mean(values: Floats, weights: Floats | None = None) -> Floats:
    """Mean of `values` `(n,)` by draw, `(draws,)`; NaN where a draw has no row."""
    weights = once(len(values)) if weights is None else weights
    return _ratio(weights @ values, weights.sum(axis=1))


def r_squared(truth: Floats, predicted: Floats, weights: Floats | None = None) -> Floats:
    """Share of the variance that is explained, `1 - sum (y - f)^2 / sum (y - mean y)^2`, `(draws,)`."""
    weights = once(len(truth)) if weights is None else weights
    centre = mean(truth, weights)
    # From the whole mean: two large squares would cancel.
    squares = mean((truth - truth.mean()) ** 2, weights)
    spread = squares - (centre - truth.mean()) ** 2
    spread = np.where(spread > 1e-12 * np.maximum(squares, truth.mean() ** 2), spread, 0.0)
    return 1 - _ratio(mean((truth - predicted) ** 2, weights), spread)


def spearman(a: Floats, b: Floats, weights: Floats | None = None) -> Floats:
    """Rank correlation, ties given their middle rank, `(draws,)`; NaN where one side is constant.

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0]))
        array([1.])
    """
    weights = once(len(a)) if weights is None else weights
    first, second = _middle_ranks(a, weights), _middle_ranks(b, weights)
    total = weights.sum(axis=1, keepdims=True)
    first, second = (ranks - (weights * ranks).sum(axis=1, keepdims=True) / total for ranks in (first, second))
    products = [(weights * x * y).sum(axis=1) for x, y in ((first, second), (first, first), (second, second))]
    # A constant side has no spread but for rounding.
    tiny = 1e-9 * np.maximum(1.0, total[:, 0] ** 2)
    spread = np.where((products[1] > tiny) & (products[2] > tiny), products[1] * products[2], 0.0)
    return _ratio(products[0], np.sqrt(spread))


def with_both(truth: Bools) -> Bools:
    """The classes that some rows have and some have not: `(n, classes)` -> `(classes,)`."""
    return np.asarray(truth.any(axis=0) & ~truth.all(axis=0))


def over_classes(columns: Floats) -> Floats:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    known = ~np.isnan(columns)
    return _ratio(np.where(known, columns, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def best_threshold(truth: Bools, scores: Floats) -> float:
    """The threshold with the highest balanced accuracy, midway between two scores; `score > threshold` = positive.

    Raises:
        ValueError: one of the two outcomes is missing.

    Example:
        >>> best_threshold(np.array([True, True, False, False]), np.array([0.9, 0.8, 0.2, 0.1]))
        0.5
    """
    if truth.all() or not truth.any():
        raise ValueError("a threshold needs both outcomes")
    hits, false = (column[0] for column in _curve(truth, scores, None))
    distinct = np.unique(scores)[::-1]
    reached = int(np.argmax(hits / hits[-1] - false / false[-1]))
    if reached + 1 == len(distinct):  # everything is called positive
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
    place = np.empty(len(values), dtype=np.int64)
    place[order] = new.cumsum() - 1
    ranks: Floats = size.cumsum(axis=1) - size + (size + 1) / 2
    return ranks[:, place]


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0))
