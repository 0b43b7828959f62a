"""Subsets of the training records: a stratified fraction, or a number of records per class."""

from collections.abc import Sequence

import numpy as np

from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Bools, Floats, Ints

_BINS = 10  # bins of a target when rows are stratified by it


def stratified_fraction(strata: Sequence[object], fraction: float, seed: int) -> Ints:
    """Indices of a stratified fraction of the rows, ascending; a smaller fraction is a subset of a larger one.

    Args:
        strata: Stratum of each row, `(n,)`: its classes, or the bin of its number.
        fraction: Above 0, at most 1; the result has at least two rows.
        seed: Seed of the draw.

    Raises:
        UserError: a fraction out of its range.

    Example:
        >>> stratified_fraction(["a", "b", "a", "b"], 0.5, seed=0).tolist() in ([0, 1], [0, 3], [1, 2], [2, 3])
        True
    """
    if not 0 < fraction <= 1:
        raise UserError(f"--fractions: expected numbers above 0, at most 1, got {fraction}")
    rng = np.random.default_rng(seed)
    quantile = np.empty(len(strata))
    members: dict[object, list[int]] = {}
    for row, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(row)
    # Each stratum is spread evenly over [0, 1) in a random order, from a random start: any prefix is stratified.
    for rows in members.values():
        quantile[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.sort(np.argsort(quantile, kind="stable")[: max(2, round(fraction * len(quantile)))])


def shots_of_classes(truth: Bools, shots: int, seed: int) -> Ints:
    """Indices of `shots` rows per class, and as many rows without a class if there are any; ascending.

    Of a class with fewer rows all are taken; a row with two classes may be drawn for both.

    Args:
        truth: `(n, classes)`.
        shots: Rows of each class, at least 1.
        seed: Seed of the draw.

    Raises:
        UserError: fewer than one shot.
    """
    if shots < 1:
        raise UserError(f"--shots: expected at least 1, got {shots}")
    rng = np.random.default_rng(seed)
    columns = [*truth.T, ~truth.any(axis=1)]
    drawn = [rng.permutation(np.flatnonzero(column))[:shots] for column in columns]
    return np.unique(np.concatenate(drawn))


def strata_of_labels(truth: Bools) -> list[bytes]:
    """Strata of label sets: rows with the same classes share a stratum."""
    return [row.tobytes() for row in truth]


def strata_of_numbers(values: Floats) -> list[int]:
    """Strata of targets: ten bins with equal numbers of rows."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return [int(rank) * _BINS // len(values) for rank in ranks]
