"""Few-shot folds: n classes, k support samples and q query samples of each, with whole groups on one side."""

from typing import NamedTuple

import numpy as np

from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Bools, Ints

_TRIES = 200  # draws of classes and of the order of groups, before a fold is refused


class Fold(NamedTuple):
    """One fold of a few-shot evaluation: indices of samples, class by class.

    Args:
        support: Training samples, `(ways, shots)`.
        query: Test samples, `(ways, queries)`.
    """

    support: Ints
    query: Ints


def eligible_classes(classes: Ints, groups: Ints, shots: int, queries: int) -> Ints:
    """Classes with enough samples: some of their groups hold at least `shots`, the others at least `queries` samples.

    Args:
        classes: Class of each sample, `(n,)`.
        groups: Group of each sample, `(n,)`; samples of one group stay together.
        shots: Training samples per class.
        queries: Test samples per class.

    Example:
        >>> classes, groups = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 3, 3])
        >>> eligible_classes(classes, groups, shots=1, queries=2).tolist()  # class 1 is a single group
        [0]
    """
    eligible = []
    for kind in np.unique(classes):
        sizes = np.unique(groups[classes == kind], return_counts=True)[1].tolist()
        sums = 1  # bit s: some of the groups hold s samples together
        for size in sizes:
            sums |= sums << size
        # Totals of the support side from `shots` up to what leaves `queries` samples.
        spare = sum(sizes) - queries - shots + 1
        if spare > 0 and (sums >> shots) & ((1 << spare) - 1):
            eligible.append(int(kind))
    return np.array(eligible, dtype=np.int64)


def draw_fold(classes: Ints, groups: Ints, *, ways: int, shots: int, queries: int, seed: tuple[int, int]) -> Fold:
    """Draw one fold.

    The classes are drawn uniformly among the eligible ones. Groups come in random order; a group goes to the support
    side while one of its classes lacks support samples and enough samples remain for its queries, else to the query
    side. The samples are then drawn uniformly on their side.

    Args:
        classes: Class of each sample, `(n,)`.
        groups: Group of each sample, `(n,)`; no group has samples on both sides, whatever its classes.
        ways: Number of classes.
        shots: Training samples per class.
        queries: Test samples per class.
        seed: Seed, and number of the fold: a fold does not depend on how many there are.

    Raises:
        UserError: fewer than `ways` classes are eligible, or groups join the classes so that no split of them is found.
    """
    rng = np.random.default_rng(seed)
    eligible = eligible_classes(classes, groups, shots, queries)
    if len(eligible) < ways:
        _refuse(classes, eligible, ways, shots, queries)
    for _ in range(_TRIES):
        drawn = rng.choice(eligible, ways, replace=False)
        supports = _support_side(classes, groups, drawn, shots, queries, rng)
        parts = [(classes == kind) & on_side for kind in drawn for on_side in (supports, ~supports)]
        if all(members.sum() >= need for members, need in zip(parts, (shots, queries) * ways, strict=True)):
            picked = [
                rng.permutation(np.flatnonzero(members))[:need]
                for members, need in zip(parts, (shots, queries) * ways, strict=True)
            ]
            return Fold(np.stack(picked[::2]), np.stack(picked[1::2]))
    raise UserError(
        f"few-shot: groups with samples of several classes leave no {ways} classes with {shots} support and {queries} "
        "query samples of different groups; use smaller --ways, --shots or --queries"
    )


def _support_side(
    classes: Ints, groups: Ints, drawn: Ints, shots: int, queries: int, rng: np.random.Generator
) -> Bools:
    """Whether the group of each sample goes to the support side, `(n,)`."""
    names, owner = np.unique(groups, return_inverse=True)
    # (groups, ways): samples of each class in each group.
    counts = np.stack([np.bincount(owner[classes == kind], minlength=len(names)) for kind in drawn], axis=1)
    lacking, spare = np.full(len(drawn), shots), counts.sum(axis=0) - queries
    chosen = np.zeros(len(names), dtype=np.bool_)
    for group in rng.permutation(np.flatnonzero(counts.any(axis=1))):
        size = counts[group]
        if (lacking[size > 0] > 0).any() and (spare >= size).all():
            chosen[group] = True
            lacking, spare = lacking - size, spare - size
    return np.asarray(chosen[owner])


def _refuse(classes: Ints, eligible: Ints, ways: int, shots: int, queries: int) -> None:
    sizes = np.sort(np.bincount(classes)[np.unique(classes)])[::-1]
    raise UserError(
        f"few-shot: expected at least {ways} classes with {shots} + {queries} samples that whole groups can share out, "
        f"got {len(eligible)} of {len(sizes)} classes (samples of the largest: "
        f"{', '.join(str(size) for size in sizes[: max(ways, 1)]) or 'none'}); use smaller --ways, --shots or "
        "--queries, or another --split"
    )
