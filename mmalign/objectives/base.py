"""The contract of an objective, and the sum over pairs that a model is trained with."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.correspondence import Correspondence, correspond
from mmalign.types import Batch, Embedding, LossOutput

SQUARE = 8
"""Rows of the squares of scores that `Objective.paired_score` makes: short ones waste little, long ones call seldom."""


class Objective(nn.Module):
    """A loss between two sides whose rows answer to each other, and the similarity it trains.

    Rows are this process's own: an objective gathers what it needs through `mmalign.distributed`, so that value and
    every gradient, averaged over processes as DDP does, equal those of one process on the whole batch.

    Attributes:
        needs: The fields of `Embedding` that it reads, among vector, log_variance, tokens, parts, codes, residual. Only
            the heads that some objective needs are built. Of the class, or of the instance where arguments decide.
        modes: Names of other scores than the one it trains, for `score`.
        reaches: The sides that its gradient reaches; a teacher's side is not among them.
        hides: The share of tokens of its sides that are hidden from the encoders in training (`Encoder.hide`).
        mixes: Whether `forward` takes `mixed`, rows of side a that were made of two samples each.
    """

    needs: frozenset[str] = frozenset({"vector"})
    modes: tuple[str, ...] = ()
    reaches: frozenset[str] = frozenset({"a", "b"})
    hides: float = 0.0
    mixes: bool = False

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """The loss of paired rows; rows of equal `groups` (batch,) are positives of each other too."""
        raise TypeError(f"{type(self).__name__} must define forward(a, b, groups) -> LossOutput")

    def score(self, a: Embedding, b: Embedding, mode: str = "") -> Tensor:
        """Similarity of every row of `a` with every row of `b`, `(len(a), len(b))`: higher = more alike.

        A pair's score depends on that pair alone. `mode` is one of `modes`, "" = the score that was trained.
        """
        raise TypeError(f"{type(self).__name__} must define score(a, b) -> Tensor")

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Which tokens of one sample answer to which of another, `(tokens_a, tokens_b)`: not negative, 0 beside pads.

        Optional. Rows and columns are tokens, or parts where that is what it needs of the side.
        """
        raise UserError(
            f"{type(self).__name__} compares whole samples, so no token of one answers to a token of the other; "
            "objectives that can say: transport, late_interaction, fdt, local"
        )

    def paired_score(self, a: Embedding, b: Embedding, mode: str = "") -> Tensor:
        """Similarity of each row of `a` with the row of `b` beside it, `(len(a),)`: the diagonal of `score`.

        This one makes small squares of scores and keeps their diagonals; objectives that can do better do.
        """
        asked = [mode] if mode else []  # an objective without modes need not know the word
        made = []
        for start in range(0, len(a), SQUARE):
            rows = slice(start, start + SQUARE)
            made.append(self.score(a[rows], b[rows], *asked).diagonal())
        return torch.cat(made) if made else self.score(a, b, *asked).flatten()

    def side_needs(self, side: Literal["a", "b"]) -> frozenset[str]:
        """What it reads of one side, where the sides differ."""
        return self.needs

    def after_step(self) -> None:
        """Put learnt constants back into their range; called after every optimiser step."""


@dataclass
class PairConfig:
    """One pair of towers and how it is trained. Several entries for one pair are its terms.

    Args:
        a: Name of the first tower.
        b: Name of the second tower.
        objective: Registered name of the objective.
        args: Its arguments.
        weight: Factor of this term's loss in the sum.
        schedule: Points `[share of the training, factor]`, straight lines between them, that multiply the weight: [[0,
            0], [0.1, 1]] fades a term in over the first tenth. Empty = 1 throughout.
        score: Share of this term's score in the pair's score. Null = 1 for the first term of a pair, 0 for others.
    """

    a: str
    b: str
    objective: str = "clip"
    args: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    schedule: list[list[float]] = field(default_factory=list)
    score: float | None = None


class PairSum(nn.Module):
    """The weighted sum of the pairs' objectives; rows that lack a side leave that pair's loss.

    Args:
        pairs: The terms.
        dim: Size of the shared space, for objectives that ask for it.

    Attributes:
        progress: The share of the training that is done, which schedules follow; set from outside.
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
        """What the objectives read of one tower; a tower in no pair gives its vector."""
        read = [objective.side_needs("a") for pair, objective in self._terms() if pair.a == tower]
        read += [objective.side_needs("b") for pair, objective in self._terms() if pair.b == tower]
        return frozenset().union(*read) or frozenset({"vector"})

    def hides_of(self, tower: str) -> float:
        """The largest share of one tower's tokens that some objective hides."""
        return max((objective.hides for pair, objective in self._terms() if tower in (pair.a, pair.b)), default=0.0)

    def _terms(self) -> list[tuple[PairConfig, Objective]]:
        typed = [objective for objective in self.objectives if isinstance(objective, Objective)]
        return list(zip(self.pairs, typed, strict=True))

    def forward(
        self,
        embeddings: Mapping[str, Embedding],
        batch: Batch,
        pulls: "GradientNorms | None" = None,
        again: Mapping[str, Embedding] | None = None,
    ) -> LossOutput:
        """Sum over terms; what they report is named `<a>_<b>/<name>`, with the loss of each as `<a>_<b>/loss`.

        A pair's second and later terms are named `<a>_<b>_<objective>/...`. With `pulls`, backward also notes how
        strongly each term pulls at the embeddings. `again` are second views, for pairs of a tower with itself.
        """
        losses, terms = [], {}
        for (pair, objective), label in zip(self._terms(), self.labels, strict=True):
            a, b, rows = common_rows(embeddings, batch, pair.a, pair.b)
            b = again[pair.b] if again and pair.a == pair.b else b
            if pulls is not None:
                a, b = pulls.watch(label, a), pulls.watch(label, b)
            soft = {"mixed": batch.mixed[pair.a][rows]} if objective.mixes and pair.a in batch.mixed else {}
            output = objective(a, b, batch.groups[rows], **soft)
            weight = pair.weight * factor_at(pair.schedule, self.progress)
            losses.append(weight * output.loss)
            terms[f"{label}/loss"] = output.loss.detach()
            if pair.schedule:
                terms[f"{label}/weight"] = torch.full((), weight, device=output.loss.device)
            terms.update({f"{label}/{name}": value for name, value in output.terms.items()})
        return LossOutput(torch.stack(losses).sum(), terms)

    def between(self, a: str, b: str) -> tuple[Objective, bool]:
        """The first objective that joins two towers, and whether its sides are swapped (b, a)."""
        for pair, objective in self._terms():
            if (pair.a, pair.b) == (a, b):
                return objective, False
            if (pair.a, pair.b) == (b, a):
                return objective, True
        trained = ", ".join(f"{pair.a}-{pair.b}" for pair in self.pairs)
        raise UserError(f"no objective joins {a!r} and {b!r}; this model was trained on: {trained}")

    def score(self, a: Embedding, b: Embedding, mode: str = "") -> Tensor:
        """The score of the pair that two embeddings make: the sum of its terms' scores by their shares.

        Args:
            a: `n` rows of one tower.
            b: `m` rows of another.
            mode: Another score of the first term alone, one of its `modes`.

        Returns:
            `(n, m)`, higher = more alike.
        """
        return self._scored(a, b, mode, lambda objective, *asked: objective.score(*asked))

    def paired_score(self, a: Embedding, b: Embedding, mode: str = "") -> Tensor:
        """As `score`, of each row of `a` with the row of `b` beside it, `(len(a),)`.

        Raises:
            UserError: the two have different numbers of rows.
        """
        if len(a) != len(b):
            raise UserError(f"scores of pairs: expected as many rows on both sides, got {len(a)} and {len(b)}")
        return self._scored(a, b, mode, lambda objective, *asked: objective.paired_score(*asked))

    def _scored(self, a: Embedding, b: Embedding, mode: str, score: Callable[..., Tensor]) -> Tensor:
        """The sum of the terms' scores by their shares; `score(objective, its a, its b)`, and a `mode` if any."""

        def one(objective: Objective, swapped: bool) -> Tensor:
            scores = score(objective, *((b, a) if swapped else (a, b)), *([mode] if mode else []))
            return scores.T if swapped and scores.ndim == 2 else scores

        first, turned = self.between(a.modality, b.modality)
        if mode:
            if mode not in first.modes:
                known = ", ".join(first.modes) or "none"
                raise UserError(f"no score called {mode!r} between {a.modality!r} and {b.modality!r}; known: {known}")
            return one(first, turned)
        total: Tensor | None = None
        for pair, objective in self._terms():
            if {pair.a, pair.b} != {a.modality, b.modality}:
                continue
            share = pair.score if pair.score is not None else float(objective is first)
            if share:
                scores = share * one(objective, (pair.a, pair.b) != (a.modality, b.modality))
                total = scores if total is None else total + scores
        if total is None:
            raise UserError(f"every term between {a.modality!r} and {b.modality!r} has score: 0; give one a share")
        return total

    def correspondence(self, a: Embedding, b: Embedding, mode: str = "") -> Correspondence:
        """Which tokens of one sample answer to which of another, by the first term between them that can say.

        Args:
            a: One row of one tower.
            b: One row of another.
            mode: Another term: the name of its objective, or its label where several have that name.

        Raises:
            UserError: no term between them can say, or none is called `mode`.
        """
        self.between(a.modality, b.modality)  # or say which towers are joined
        terms = [(*term, label) for term, label in zip(self._terms(), self.labels, strict=True)]
        return correspond(terms, a, b, mode)

    def scores_of_vectors(self, a: str, b: str) -> bool:
        """Whether the pair's score reads nothing but vectors, so that a vector can stand for several samples."""
        first, _ = self.between(a, b)
        used = [
            objective
            for pair, objective in self._terms()
            if {pair.a, pair.b} == {a, b} and (objective is first if pair.score is None else pair.score)
        ]
        return all(objective.needs == {"vector"} for objective in used)

    def after_step(self) -> None:
        """Let every objective put its learnt constants back into their range."""
        for _, objective in self._terms():
            objective.after_step()


class GradientNorms:
    """How strongly each term pulls at the embeddings: the norm of its part of their gradient, noted in backward.

    Example:
        >>> pulls, side = GradientNorms(), Embedding(torch.eye(2, requires_grad=True))
        >>> (3 * pulls.watch("x_y", side).vector).sum().backward()
        >>> pulls.norms()
        {'x_y': tensor(6.)}
    """

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}

    def watch(self, label: str, embedding: Embedding) -> Embedding:
        """The same embedding; what flows back through it counts for this term."""

        def note(gradient: Tensor) -> None:
            self._squares.setdefault(label, []).append(gradient.detach().float().square().sum())

        def alias(value: Tensor) -> Tensor:
            if not value.requires_grad:
                return value
            same = value.view_as(value)
            same.register_hook(note)  # type: ignore[no-untyped-call]
            return same

        return embedding.map(alias)

    def norms(self) -> dict[str, Tensor]:
        """By term, over all fields of both sides of this process's rows."""
        return {label: torch.stack(squares).sum().sqrt() for label, squares in self._squares.items()}


def factor_at(schedule: Sequence[Sequence[float]], progress: float) -> float:
    """The height of a line through points at a place; level before the first and after the last, 1 without points.

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
    """The rows that have both sides: `a`'s and `b`'s embeddings of them, aligned, and their places in the batch."""
    rows_a, rows_b = batch.rows[a], batch.rows[b]
    if len(rows_a) == len(rows_b) == len(batch):
        return embeddings[a], embeddings[b], rows_a
    in_a, in_b = torch.isin(rows_a, rows_b), torch.isin(rows_b, rows_a)
    return embeddings[a][in_a], embeddings[b][in_b], rows_a[in_a]


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
    for name, value in (("weight", pair.weight), ("score", pair.score)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"pair {pair.a}-{pair.b}: {name}: expected a finite number, got {value}")
    where = f"pair {pair.a}-{pair.b}: schedule"
    points = all(isinstance(point, Sequence) and len(point) == 2 for point in pair.schedule)
    if not points or not all(math.isfinite(factor) for _, factor in pair.schedule):
        raise UserError(f"{where}: expected points [share of the training, factor], got {pair.schedule}")
    places = [place for place, _ in pair.schedule]
    if places != sorted(set(places)) or any(not 0 <= place <= 1 for place in places):
        raise UserError(f"{where}: expected shares of the training from 0 to 1, ascending, got {places}")
