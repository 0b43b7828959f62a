"""Fixed parts of the training rows: a share of them, or a few of each class."""

from collections.abc import Sequence

import numpy as np

from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Bools, Floats, Ints

_BINS = 10  # of a number, when rows are spread evenly over its range


def share_of_rows(strata: Sequence[object], share: float, seed: int) -> Ints:
    """A share of the rows in which every stratum has its part, ascending; a smaller share lies within a larger one.

    Args:
        strata: What each row is like, `(n,)`: its classes, or the bin of its number.
        share: Above 0 to 1; never fewer than two rows.
        seed: Another seed, other rows.

    Raises:
        UserError: a share out of its range.

    Example:
        >>> share_of_rows(["a", "b", "a", "b"], 0.5, seed=0).tolist() in ([0, 1], [0, 3], [1, 2], [2, 3])
        True
    """
    if not 0 < share <= 1:
        raise UserError(f"--shares: expected shares above 0, up to 1, got {share}")
    rng = np.random.default_rng(seed)
    place = np.empty(len(strata))
    members: dict[object, list[int]] = {}
    for row, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(row)
    # Each stratum is spread evenly over [0, 1) in a random order, from a random start: any prefix holds its share.
    for rows in members.values():
        place[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.sort(np.argsort(place, kind="stable")[: max(2, round(share * len(place)))])


def shots_of_classes(truth: Bools, shots: int, seed: int) -> Ints:
    """Rows with `shots` of each class, and as many without any class where there are such; ascending.

    A class with fewer rows gives all of them; a row with two classes may be drawn for both.

    Args:
        truth: `(n, classes)`.
        shots: Rows of each class, at least 1.
        seed: Another seed, other rows.

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
    """Rows with the same classes are one stratum."""
    return [row.tobytes() for row in truth]


def strata_of_numbers(values: Floats) -> list[int]:
    """Ten bins of equally many rows."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return [int(rank) * _BINS // len(values) for rank in ranks]
