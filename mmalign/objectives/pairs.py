"""Pairs of towers, their terms, and the weighted sum of their losses."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.correspondence import Correspondence
from mmalign.objectives.gradient_norms import GradientNorms
from mmalign.objectives.levels import Level
from mmalign.objectives.objective import Objective
from mmalign.types import Batch, Embedding, LossOutput


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
    """

    a: str
    b: str
    objective: str = "clip"
    args: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    schedule: list[list[float]] = field(default_factory=list)
    score_weight: float | None = None


class PairSum(nn.Module):
    """The weighted sum of the pairs' objectives; a pair's loss uses the rows that have both towers.

    Args:
        pairs: The terms.
        dim: Size of the shared space, for objectives that take it.

    Attributes:
        progress: Fraction of the training that is done, for schedules; set by the trainer.
    """

    def __init__(self, pairs: Sequence[PairConfig], dim: int | None = None) -> None:
        super().__init__()
        if not pairs:
            raise UserError("a model needs at least one pair, for instance: pairs: [{a: image, b: text}]")
        for pair in pairs:
            _check(pair)
        self.pairs, self.progress = list(pairs), 0.0
        self.objectives = nn.ModuleList(_build(pair, dim) for pair in pairs)
        self.labels = _labels(self.pairs)

    def needs_of(self, tower: str) -> frozenset[str]:
        """Fields of one tower's embedding that the objectives read; `vector` for a tower in no pair."""
        read = [objective.side_needs("a") for pair, objective in self._terms() if pair.a == tower]
        read += [objective.side_needs("b") for pair, objective in self._terms() if pair.b == tower]
        return frozenset().union(*read) or frozenset({"vector"})

    def mask_ratio_of(self, tower: str) -> float:
        """The largest fraction of one tower's tokens that an objective masks."""
        return max(
            (objective.mask_ratio for pair, objective in self._terms() if tower in (pair.a, pair.b)), default=0.0
        )

    def _terms(self) -> list[tuple[PairConfig, Objective]]:
        typed = [objective for objective in self.objectives if isinstance(objective, Objective)]
        return list(zip(self.pairs, typed, strict=True))

    def forward(
        self,
        embeddings: Mapping[str, Embedding],
        batch: Batch,
        gradient_norms: "GradientNorms | None" = None,
        again: Mapping[str, Embedding] | None = None,
    ) -> LossOutput:
        """Sum over terms; logged values are named `<a>_<b>/<name>`, the loss of each term `<a>_<b>/loss`.

        A pair's second and later terms are named `<a>_<b>_<objective>/...`. With `gradient_norms`, the backward pass
        also records the norm of each term's gradient at the embeddings. `again` are second views, for pairs of a tower
        with itself.
        """
        losses, terms = [], {}
        for (pair, objective), label in zip(self._terms(), self.labels, strict=True):
            a, b, rows = common_rows(embeddings, batch, pair.a, pair.b)
            b = again[pair.b] if again and pair.a == pair.b else b
            if gradient_norms is not None:
                a, b = gradient_norms.watch(label, a), gradient_norms.watch(label, b)
            mixed = batch.mixed[pair.a][rows] if objective.mixes and pair.a in batch.mixed else None
            output = objective(a, b, batch.groups[rows], mixed)
            weight = pair.weight * factor_at(pair.schedule, self.progress)
            losses.append(weight * output.loss)
            terms[f"{label}/loss"] = output.loss.detach()
            if pair.schedule:
                terms[f"{label}/weight"] = torch.full((), weight, device=output.loss.device)
            terms.update({f"{label}/{name}": value for name, value in output.terms.items()})
        return LossOutput(torch.stack(losses).sum(), terms)

    def between(self, a: str, b: str) -> tuple[Objective, bool]:
        """The first objective of two towers, and whether it takes them in swapped order (b, a)."""
        for pair, objective in self._terms():
            if (pair.a, pair.b) == (a, b):
                return objective, False
            if (pair.a, pair.b) == (b, a):
                return objective, True
        trained = ", ".join(f"{pair.a}-{pair.b}" for pair in self.pairs)
        raise UserError(f"no objective joins {a!r} and {b!r}; this model was trained on: {trained}")

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Score of every pair of rows: the sum of the terms' scores, weighted by `score_weight`.

        Args:
            a: `n` rows of one tower.
            b: `m` rows of another.
            score: One of the first term's `scores`; default: the weighted sum.

        Returns:
            `(n, m)`, higher = more similar.
        """
        return self._scored(a, b, score, lambda objective, *asked: objective.similarity(*asked))

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Score of row i of `a` with row i of `b`, `(len(a),)`; as `similarity`.

        Raises:
            UserError: the two have different numbers of rows.
        """
        if len(a) != len(b):
            raise UserError(f"scores of pairs: expected as many rows of both towers, got {len(a)} and {len(b)}")
        return self._scored(a, b, score, lambda objective, *asked: objective.similarity_pairwise(*asked))

    def _scored(self, a: Embedding, b: Embedding, score: str, similarity: Callable[..., Tensor]) -> Tensor:
        """The terms' scores summed with `score_weight`; `similarity(objective, its a, its b)`, and a `score` if any."""

        def one(objective: Objective, swapped: bool) -> Tensor:
            scores = similarity(objective, *((b, a) if swapped else (a, b)), *([score] if score else []))
            return scores.T if swapped and scores.ndim == 2 else scores

        first, turned = self.between(a.tower, b.tower)
        if score:
            if score not in first.scores:
                known = ", ".join(first.scores) or "none"
                raise UserError(f"no score called {score!r} between {a.tower!r} and {b.tower!r}; known: {known}")
            return one(first, turned)
        total: Tensor | None = None
        for pair, objective in self._terms():
            if {pair.a, pair.b} != {a.tower, b.tower}:
                continue
            share = pair.score_weight if pair.score_weight is not None else float(objective is first)
            if share:
                scores = share * one(objective, (pair.a, pair.b) != (a.tower, b.tower))
                total = scores if total is None else total + scores
        if total is None:
            raise UserError(f"every term between {a.tower!r} and {b.tower!r} has score_weight: 0; give one another")
        return total

    def correspondence(self, a: Embedding, b: Embedding, term: str = "") -> Correspondence:
        """Token correspondence of two samples, by the first term of their towers that has one.

        Args:
            a: One row of one tower.
            b: One row of another.
            term: Another term: the name of its objective, or its label where several have that name.

        Raises:
            UserError: no term of these towers has a token correspondence, or none is called `term`.
        """
        self.between(a.tower, b.tower)  # raises an error that names the trained pairs
        terms = [
            (pair, objective, label)
            for (pair, objective), label in zip(self._terms(), self.labels, strict=True)
            if {pair.a, pair.b} == {a.tower, b.tower}
        ]
        named = [entry for entry in terms if term in ("", entry[0].objective, entry[2])]
        if not named:
            known = sorted({entry[2] for entry in terms} | {entry[0].objective for entry in terms})
            raise UserError(f"no term {term!r} between {a.tower!r} and {b.tower!r}{registry.nearest(term, known)}")
        able = [entry for entry in named if type(entry[1]).correspondence is not Objective.correspondence]
        pair, objective, label = (able or named)[0]  # the base method raises an error that names able objectives
        swapped = (pair.a, pair.b) != (a.tower, b.tower)
        weights = objective.correspondence(b, a) if swapped else objective.correspondence(a, b)
        level_a, level_b = _level(objective.side_needs("a")), _level(objective.side_needs("b"))
        found = Correspondence(weights, level_a, level_b, label)
        return found.swapped() if swapped else found

    def scores_of_vectors(self, a: str, b: str) -> bool:
        """Whether the pair's score reads only vectors, so that a mean vector can represent several samples."""
        first, _ = self.between(a, b)
        used = [
            objective
            for pair, objective in self._terms()
            if {pair.a, pair.b} == {a, b} and (objective is first if pair.score_weight is None else pair.score_weight)
        ]
        return all(objective.needs == {"vector"} for objective in used)

    def after_step(self) -> None:
        """Call every objective's `after_step`, which clamps its learnt constants."""
        for _, objective in self._terms():
            objective.after_step()


def factor_at(schedule: Sequence[Sequence[float]], progress: float) -> float:
    """Linear interpolation of a schedule at `progress`; constant outside the points, 1 without points.

    Example:
        >>> [factor_at([[0.25, 0], [0.75, 1]], place) for place in (0.0, 0.5, 0.9)]
        [0.0, 0.5, 1.0]
    """
    if not schedule:
        return 1.0
    places, heights = zip(*schedule, strict=True)
    return float(np.interp(progress, places, heights))


def common_rows(
    embeddings: Mapping[str, Embedding], batch: Batch, a: str, b: str
) -> tuple[Embedding, Embedding, Tensor]:
    """The rows that have both towers: embeddings `a` and `b`, aligned, and their indices in the batch."""
    rows_a, rows_b = batch.sample_indices[a], batch.sample_indices[b]
    if len(rows_a) == len(rows_b) == len(batch):
        return embeddings[a], embeddings[b], rows_a
    in_a, in_b = torch.isin(rows_a, rows_b), torch.isin(rows_b, rows_a)
    return embeddings[a][in_a], embeddings[b][in_b], rows_a[in_a]


def _level(needs: frozenset[str]) -> Level:
    return "parts" if "parts" in needs else "tokens"


def _build(pair: PairConfig, dim: int | None) -> Objective:
    factory = registry.load("objectives", pair.objective)
    asked = {"dim": dim} if dim is not None and "dim" in inspect.signature(factory).parameters else {}
    try:
        objective = factory(**{**asked, **pair.args})
    except TypeError as error:
        raise UserError(f"objective {pair.objective!r}: {error}") from error
    if not isinstance(objective, Objective):
        raise UserError(f"objective {pair.objective!r} is a {type(objective).__name__}, not an Objective")
    return objective


def _labels(pairs: Sequence[PairConfig]) -> list[str]:
    labels: list[str] = []
    for pair in pairs:
        label = f"{pair.a}_{pair.b}"
        if label in labels:
            label = f"{label}_{pair.objective}"
        names = [label, *(f"{label}-{again}" for again in range(2, len(pairs) + 2))]
        labels.append(next(name for name in names if name not in labels))
    return labels


def _check(pair: PairConfig) -> None:
    for name, value in (("weight", pair.weight), ("score_weight", pair.score_weight)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"pair {pair.a}-{pair.b}: {name}: expected a finite number, got {value}")
    where = f"pair {pair.a}-{pair.b}: schedule"
    points = all(isinstance(point, Sequence) and len(point) == 2 for point in pair.schedule)
    if not points or not all(math.isfinite(factor) for _, factor in pair.schedule):
        raise UserError(f"{where}: expected points [fraction of training, factor], got {pair.schedule}")
    places = [place for place, _ in pair.schedule]
    if places != sorted(set(places)) or any(not 0 <= place <= 1 for place in places):
        raise UserError(f"{where}: expected fractions of training from 0 to 1, ascending, got {places}")
