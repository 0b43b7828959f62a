"""Pairs of towers, their terms, and the weighted sum of their losses."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.common_rows import common_items
from mmalign.objectives.pairs.gradient_norms import GradientNorms
from mmalign.objectives.pairs.nested_loss import check_dims, nested_loss
from mmalign.objectives.pairs.pair_config import PairConfig, check_pair, factor_at, labels_of
from mmalign.objectives.parts.correspondence import Correspondence, compared_tokens, to_original_tokens
from mmalign.objectives.parts.levels import Level
from mmalign.objectives.parts.shared_space import cosine, path_between
from mmalign.types import Batch, Embedding, LossOutput


class PairSum(nn.Module):
    """The weighted sum of the pairs' objectives; a pair's loss uses the rows that have both towers.

    Args:
        pairs: The terms.
        dim: Size of the shared space, for objectives that take it.

    Attributes:
        progress: Fraction of the training that is done, for schedules; set by `set_progress`.
    """

    def __init__(self, pairs: Sequence[PairConfig], dim: int | None = None) -> None:
        super().__init__()
        if not pairs:
            raise UserError("a model needs at least one pair, for instance: pairs: [{a: image, b: text}]")
        for pair in pairs:
            check_pair(pair)
        self.pairs, self.progress = list(pairs), 0.0
        self.objectives = nn.ModuleList(_build(pair, dim) for pair in pairs)
        self.labels = labels_of(self.pairs)
        for pair, objective in self._terms():
            check_dims(pair, objective, dim)

    def needs_of(self, tower: str) -> frozenset[str]:
        """Fields of one tower's embedding that the objectives read; `vector` for a tower in no pair."""
        read = [objective.tower_needs("a") for pair, objective in self._terms() if pair.a == tower]
        read += [objective.tower_needs("b") for pair, objective in self._terms() if pair.b == tower]
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
            a, b, rows, owner = common_items(embeddings, batch, pair.a, pair.b)
            b = (again or {}).get(pair.b, b) if pair.a == pair.b else b
            if gradient_norms is not None:
                a, b = gradient_norms.watch(label, a), gradient_norms.watch(label, b)
            mixed = batch.mixed[pair.a][rows] if objective.mixes and pair.a in batch.mixed else None
            guide = batch.guides.get((pair.a, pair.b)) if objective.guided else None
            guide = None if guide is None else guide[rows]
            groups = batch.groups[rows]
            output = nested_loss(objective, a, b, groups, mixed, dims=pair.dims, guide=guide, owner=owner)
            weight = pair.weight * factor_at(pair.schedule, self.progress)
            losses.append(weight * output.loss)
            terms[f"{label}/loss"] = output.loss.detach()
            if pair.schedule:
                terms[f"{label}/weight"] = torch.full((), weight, device=output.loss.device)
            terms.update({f"{label}/{name}": value for name, value in output.terms.items()})
        return LossOutput(torch.stack(losses).sum(), terms)

    def emergent_path(self, a: str, b: str) -> list[str] | None:
        """The towers that join two towers which were never paired, both included; None where a pair joins them.

        Raises:
            UserError: neither a pair nor a chain of pairs joins them, or a tower of the chain has no trained vector.
        """
        joined = [(pair.a, pair.b) for pair in self.pairs]
        if (a, b) in joined or (b, a) in joined:
            return None
        path = path_between(joined, a, b)
        if path is None:
            self.between(a, b)  # raises an error that names the trained pairs
            raise AssertionError
        for tower in path:
            if "vector" not in self.needs_of(tower):
                raise UserError(
                    f"{a!r} and {b!r} were never paired, and the objectives of {tower!r} train no vector to compare "
                    "them by; add a term such as clip"
                )
        return path

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

        Of towers that were never paired (and of a tower with itself) the cosine of their vectors.

        Args:
            a: `n` rows of one tower.
            b: `m` rows of another.
            score: One of the first term's `scores`; default: the weighted sum.

        Returns:
            `(n, m)`, higher = more similar.
        """
        if not score and self.emergent_path(a.tower, b.tower):
            return cosine(a, b)
        return self._scored(a, b, score, lambda objective, *asked: objective.similarity(*asked))

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Score of row i of `a` with row i of `b`, `(len(a),)`; as `similarity`.

        Raises:
            UserError: the two have different numbers of rows.
        """
        if len(a) != len(b):
            raise UserError(f"scores of pairs: expected as many rows of both towers, got {len(a)} and {len(b)}")
        if not score and self.emergent_path(a.tower, b.tower):
            return cosine(a, b, pairwise=True)
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
        first, second = (b, a) if swapped else (a, b)
        needs_a, needs_b = objective.tower_needs("a"), objective.tower_needs("b")
        weights = to_original_tokens(
            objective.correspondence(first, second), compared_tokens(first, needs_a), compared_tokens(second, needs_b)
        )
        correspondence = Correspondence(weights, _level(needs_a), _level(needs_b), label)
        return correspondence.swapped() if swapped else correspondence

    def logit_scale(self, a: str, b: str) -> float:
        """The learnt scale of the similarities in the pair's loss (`1 / temperature`); 1 if it has none.

        Of towers that were never paired, the mean of the scales of the pairs that join them.
        """
        path = self.emergent_path(a, b)
        if path is None:
            scale = getattr(self.between(a, b)[0], "scale", 1.0)
            return float(scale.detach() if isinstance(scale, Tensor) else scale)
        scales = [self.logit_scale(one, other) for one, other in pairwise(path)]
        return sum(scales) / len(scales) if scales else 1.0

    def logit_bias(self, a: str, b: str) -> float:
        """The learnt bias of the logits in the pair's loss; 0 if it has none, or if the towers were never paired."""
        if self.emergent_path(a, b) is not None:
            return 0.0
        bias = getattr(self.between(a, b)[0], "bias", 0.0)
        return float(bias.detach() if isinstance(bias, Tensor) else bias)

    def scores_of_vectors(self, a: str, b: str) -> bool:
        """Whether the pair's score reads only vectors, so that a mean vector can represent several samples."""
        if self.emergent_path(a, b):
            return True
        first, _ = self.between(a, b)
        used = [
            objective
            for pair, objective in self._terms()
            if {pair.a, pair.b} == {a, b} and (objective is first if pair.score_weight is None else pair.score_weight)
        ]
        return all(objective.needs == {"vector"} for objective in used)

    def set_progress(self, progress: float) -> None:
        """Set the fraction of the training that is done, for schedules and for objectives that read it."""
        self.progress = progress
        for _, objective in self._terms():
            objective.set_progress(progress)

    def after_step(self) -> None:
        """Call every objective's `after_step`, which clamps its learnt constants."""
        for _, objective in self._terms():
            objective.after_step()


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
