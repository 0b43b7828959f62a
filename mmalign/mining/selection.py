"""Which candidates of a record become its hard negatives: ranks, margins, surface similarity, sampling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Floats, Ints

SAMPLINGS = ("top", "random")
SMOOTH = 0.05
"""Width of the soft margin of the weights by surface similarity."""
LEAST = 0.05
"""Smallest propensity: no weight is above 20."""


@dataclass(frozen=True)
class Selection:
    """Settings of the choice of hard negatives among the candidates of a record.

    Args:
        negatives: Maximum number of negatives of each record.
        skip: Number of first ranks that are skipped: the likeliest false negatives.
        depth: Number of further ranks that are candidates.
        absolute_margin: A negative scores at most the record's own pair minus this; None = no such bound.
        relative_margin: A negative scores at most the record's own pair minus this fraction of its absolute value; None
            = no such bound.
        min_score: Lower bound of a negative's score.
        max_score: Upper bound of a negative's score.
        sampling: `top`, the first ones, or `random`, drawn among the candidates that are left.
        seed: Seed of the draw.

    Raises:
        UserError: a value is out of its range.
    """

    negatives: int = 4
    skip: int = 0
    depth: int = 50
    absolute_margin: float | None = None
    relative_margin: float | None = 0.05
    min_score: float | None = None
    max_score: float | None = None
    sampling: str = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("negatives", self.negatives, 1), ("skip", self.skip, 0), ("depth", self.depth, 1)):
            if value < least:
                raise UserError(f"--{name}: expected at least {least}, got {value}")
        if self.sampling not in SAMPLINGS:
            raise UserError(f"--sampling: expected one of {', '.join(SAMPLINGS)}, got {self.sampling!r}")
        for name in ("absolute_margin", "relative_margin", "min_score", "max_score"):
            bound = getattr(self, name)
            if bound is not None and not math.isfinite(bound):
                raise UserError(f"--{name}: expected a finite number, got {bound}")

    def upper_bound(self, positive: float) -> float:
        """The highest score that a negative may have.

        Example:
            >>> Selection(relative_margin=0.25, absolute_margin=0.1).upper_bound(0.8)
            0.6000000000000001
        """
        bounds = [math.inf if self.max_score is None else self.max_score]
        bounds += [] if self.absolute_margin is None else [positive - self.absolute_margin]
        bounds += [] if self.relative_margin is None else [positive - self.relative_margin * abs(positive)]
        return min(bounds)


@dataclass
class Counts:
    """What happened to the candidates of all records; `skipped` to `chosen` sum to the number of candidates.

    Args:
        related: Records of the same content or group that rank among the candidates; they are never candidates.
        skipped: Candidates of the first ranks.
        above_margin: Candidates that score too high: possible false negatives.
        below_min_score: Candidates that score too low.
        beyond: Candidates that pass, of records that already have their number of negatives.
        chosen: Negatives.
        records_without: Records without a negative.
    """

    related: int = 0
    skipped: int = 0
    above_margin: int = 0
    below_min_score: int = 0
    beyond: int = 0
    chosen: int = 0
    records_without: int = 0

    def to_json(self) -> Mapping[str, int]:
        """The counts by name."""
        return dict(vars(self))


@dataclass
class Candidates:
    """The candidates of one record, best first.

    Args:
        columns: Their indices, `(candidates,)`.
        scores: Their scores, `(candidates,)`.
        positive: Score of the record's own pair.
        surfaces: Their surface similarity; None = ranked by the scores.
    """

    columns: Ints
    scores: Floats
    positive: float
    surfaces: Floats | None = field(default=None)


def choose(candidates: Candidates, settings: Selection, record: int, counts: Counts) -> Ints:
    """Ranks of the candidates that become negatives, in the order of their use.

    With surface similarities `u` and scores `t`, a candidate has the weight (our form of the inverse propensity weights
    of DebCSE, arXiv 2309.07396, whose released constants are not known)

        w = sigmoid((t_max - t) / 0.05) / max(1 - u, 0.05)

    so that negatives look alike and mean something else; without, all weights are equal. `top` takes the largest
    weights, among equal ones the first ranks; `random` draws by the weights without replacement.

    Args:
        candidates: The candidates of the record.
        settings: The settings.
        record: Number of the record, which with the seed determines the draw.
        counts: Counts to add to.

    Example:
        >>> counts = Counts()
        >>> few = Candidates(np.array([7, 8, 9]), np.array([0.9, 0.5, 0.4]), 0.8)
        >>> choose(few, Selection(negatives=1), 0, counts).tolist(), counts.above_margin, counts.beyond
        ([1], 1, 1)
    """
    ranks = np.arange(len(candidates.columns))
    most = settings.upper_bound(candidates.positive)
    kept = ranks[settings.skip :]
    scores = candidates.scores[kept]
    low, high = scores < (-math.inf if settings.min_score is None else settings.min_score), scores > most
    counts.skipped += len(ranks) - len(kept)
    counts.above_margin += int(high.sum())
    counts.below_min_score += int((low & ~high).sum())
    kept = kept[~low & ~high]
    weights = np.ones(len(kept))
    if candidates.surfaces is not None:
        limit = most if math.isfinite(most) else candidates.positive
        slack = np.clip((limit - candidates.scores[kept]) / SMOOTH, -500, 500)
        weights = 1 / (1 + np.exp(-slack)) / np.maximum(1 - candidates.surfaces[kept], LEAST)
    order = -weights
    if settings.sampling == "random":  # the largest of log w + Gumbel noise: draws without replacement
        order = -np.log(weights) - np.random.default_rng((settings.seed, record)).gumbel(size=len(kept))
    chosen = kept[order.argsort(kind="stable")][: settings.negatives]
    counts.beyond += len(kept) - len(chosen)
    counts.chosen += len(chosen)
    counts.records_without += not len(chosen)
    return np.asarray(chosen, dtype=np.int64)
