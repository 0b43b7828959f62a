"""Configuration of a pair of towers: its objective, weight and schedule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmalign.errors import UserError


@dataclass
class PairConfig:
    """One pair of towers and how it is trained. Several entries for one pair are its terms.

    Args:
        a: Name of the first tower.
        b: Name of the second tower.
        objective: Registered name of the objective.
        args: Its arguments.
        weight: Factor of this term's loss in the sum.
        schedule: Points `[fraction of training, factor]`, interpolated linearly; the factor multiplies the weight:
            [[0, 0], [0.1, 1]] is a linear warm-up over the first tenth. Empty = 1 throughout.
        score_weight: Weight of this term's score in the pair's score. Null = 1 for a pair's first term, 0 for others.
        scale_from: Tower whose pretrained model was trained with a learnt scale (and bias) of the similarities, such as
            one of open_clip: the objective starts from them. "" = from its own arguments.
        dims: Nested embedding sizes (Matryoshka): the term is trained on the full vectors and on their first d
            dimensions for each d, so that vectors can be truncated to these sizes; for objectives that compare
            vectors. Empty = the full size only.
    """

    a: str
    b: str
    objective: str = "clip"
    args: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    schedule: list[list[float]] = field(default_factory=list)
    score_weight: float | None = None
    scale_from: str = ""
    dims: list[int] = field(default_factory=list)


def factor_at(schedule: Sequence[Sequence[float]], progress: float) -> float:
    """Linear interpolation of a schedule at `progress`; constant outside the points, 1 without points.

    Example:
        >>> [factor_at([[0.25, 0], [0.75, 1]], place) for place in (0.0, 0.5, 0.9)]
        [0.0, 0.5, 1.0]
    """
    if not schedule:
        return 1.0
    fractions, heights = zip(*schedule, strict=True)
    return float(np.interp(progress, fractions, heights))


def labels_of(pairs: Sequence[PairConfig]) -> list[str]:
    """A name for each term, unique: `<a>_<b>`, with the objective where a pair has several."""
    labels: list[str] = []
    for pair in pairs:
        label = f"{pair.a}_{pair.b}"
        if label in labels:
            label = f"{label}_{pair.objective}"
        names = [label, *(f"{label}-{again}" for again in range(2, len(pairs) + 2))]
        labels.append(next(name for name in names if name not in labels))
    return labels


def check_pair(pair: PairConfig) -> None:
    """Raise a `UserError` for a weight or schedule that cannot be used."""
    for name, value in (("weight", pair.weight), ("score_weight", pair.score_weight)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"pair {pair.a}-{pair.b}: {name}: expected a finite number, got {value}")
    where = f"pair {pair.a}-{pair.b}: schedule"
    points = all(isinstance(point, Sequence) and len(point) == 2 for point in pair.schedule)
    if not points or not all(math.isfinite(factor) for _, factor in pair.schedule):
        raise UserError(f"{where}: expected points [fraction of training, factor], got {pair.schedule}")
    fractions = [fraction for fraction, _ in pair.schedule]
    if fractions != sorted(set(fractions)) or any(not 0 <= fraction <= 1 for fraction in fractions):
        raise UserError(f"{where}: expected fractions of training from 0 to 1, ascending, got {fractions}")
