"""Percentile bootstrap: confidence intervals over resampled records.

Whole records are drawn with replacement, because the items of one record, such as the captions of an image, are
correlated (cluster bootstrap; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).
One record has no interval: every draw is the same. The functions then return an empty list in place of an interval.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mmalign.safe_io.progress import track

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = list[float]

LEVEL = 0.95
_CELLS = 2**22  # cells of one block of drawn weights


def draws(records: int, *, resamples: int, seed: int, width: int = 0) -> Iterator[Floats]:
    """Number of times that each record is drawn, in blocks `(block, records)`; rows sum to `records`.

    `width` is the number of cells that the caller computes per draw; it makes the blocks smaller, to bound memory.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // max(records, width, 1))
    for start in track(range(0, resamples, block), "bootstrap"):
        taken = (rng.integers(0, records, records) for _ in range(min(block, resamples - start)))
        yield np.stack([np.bincount(one, minlength=records) for one in taken]).astype(np.float64)


def means(values: Floats, records: Ints, *, resamples: int, seed: int) -> list[Interval]:
    """Intervals of the columns' means.

    Args:
        values: One row per query, `(n, columns)`.
        records: Index of the record of each query, `(n,)`, any integers.
        resamples: Number of bootstrap resamples; 0: no intervals.
        seed: Equal seed = equal intervals, and the same draws for every score of one evaluation.

    Example:
        >>> means(np.ones((4, 1)), np.arange(4), resamples=100, seed=0)
        [[1.0, 1.0]]
    """
    _, cluster = np.unique(records, return_inverse=True)
    size = np.bincount(cluster).astype(np.float64)
    if len(size) < 2 or not resamples:
        return [[] for _ in values.T]
    sums = np.stack([np.bincount(cluster, weights=column) for column in values.T], axis=1)
    drawn = [
        (weights @ sums) / (weights @ size)[:, None] for weights in draws(len(size), resamples=resamples, seed=seed)
    ]
    return _percentiles(np.concatenate(drawn))


def median(values: Floats, records: Ints, *, resamples: int, seed: int) -> Interval:
    """Interval of the median of `values` `(n,)`; for an even number of values, the mean of the middle two."""
    _, cluster = np.unique(records, return_inverse=True)
    if cluster.max() < 1:
        return []
    order = np.argsort(values, kind="stable")
    ascending, owner = values[order], cluster[order]
    drawn = []
    for weights in draws(int(cluster.max()) + 1, resamples=resamples, seed=seed, width=len(values)):
        reached = weights[:, owner].cumsum(axis=1)
        for row in reached:
            total = row[-1]
            low, high = np.searchsorted(row, [(total + 1) // 2, total // 2 + 1])
            drawn.append((ascending[low] + ascending[high]) / 2)
    return _percentiles(np.array(drawn)[:, None])[0]


def class_means(values: Floats, classes: Ints, records: Ints, *, resamples: int, seed: int) -> Interval:
    """Interval of the mean over classes of each class's mean; classes absent from a draw are left out of its mean."""
    _, cluster = np.unique(records, return_inverse=True)
    _, kind = np.unique(classes, return_inverse=True)
    shape = (int(cluster.max()) + 1, int(kind.max()) + 1)
    if shape[0] < 2:
        return []
    size, sums = np.zeros(shape), np.zeros(shape)
    np.add.at(size, (cluster, kind), 1.0)
    np.add.at(sums, (cluster, kind), values)
    drawn = []
    for weights in draws(shape[0], resamples=resamples, seed=seed):
        number = weights @ size
        share = np.divide(weights @ sums, number, out=np.zeros_like(number), where=number > 0)
        drawn.append(share.sum(axis=1) / (number > 0).sum(axis=1))
    return _percentiles(np.concatenate(drawn)[:, None])[0]


def recomputed(statistic: Callable[[Ints], Floats], records: Ints, *, resamples: int, seed: int) -> list[Interval]:
    """Intervals of a statistic that is recomputed from the drawn rows, such as areas under a curve.

    Args:
        statistic: Row indices, with repeats -> scores `(columns,)`; NaN where a draw does not define one.
        records: Index of the record of each row, `(n,)`.
        resamples: Number of bootstrap resamples.
        seed: As in `means`.
    """
    _, cluster = np.unique(records, return_inverse=True)
    rows = np.arange(len(cluster))
    if cluster.max() < 1:
        return [[] for _ in statistic(rows)]
    drawn = [
        statistic(np.repeat(rows, weights[cluster].astype(np.int64)))
        for block in draws(int(cluster.max()) + 1, resamples=resamples, seed=seed)
        for weights in block
    ]
    return _percentiles(np.stack(drawn))


def weighted(statistic: Callable[[Floats], Floats], records: Ints, *, resamples: int, seed: int) -> list[Interval]:
    """Intervals of a statistic that takes all draws at once, as row weights.

    Args:
        statistic: Weights, the number of times that each row was drawn, `(draws, n)` -> scores `(draws, columns)`; NaN
            where a draw does not define one.
        records: Resampling unit of each row, `(n,)`, any integers: its record or its group.
        resamples: Number of bootstrap resamples.
        seed: As in `means`.
    """
    _, cluster = np.unique(records, return_inverse=True)
    number = int(cluster.max()) + 1
    if number < 2:
        return [[] for _ in statistic(np.ones((1, len(cluster))))[0]]
    blocks = draws(number, resamples=resamples, seed=seed, width=len(cluster))
    return _percentiles(np.concatenate([statistic(weights[:, cluster]) for weights in blocks]))


def percentiles(drawn: Floats) -> Interval:
    """The interval of one statistic from its value on each draw, `(draws,)`; NaN = not defined; empty if all are."""
    defined, tail = drawn[~np.isnan(drawn)], 50 * (1 - LEVEL)
    return [float(edge) for edge in np.percentile(defined, [tail, 100 - tail])] if len(defined) else []


def _percentiles(drawn: Floats) -> list[Interval]:
    return [percentiles(column) for column in drawn.T]
