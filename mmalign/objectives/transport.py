"""Optimal transport objective: the similarity of two samples is that of their tokens under a transport plan."""

import math
from typing import Literal, TypedDict, get_args

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.functional.computing.similarity_cross_entropy import partial_similarity_cross_entropy
from mmalign.objectives.functional.transport.set_similarity import transport_plan, transport_scores
from mmalign.objectives.functional.transport.sinkhorn import Gradient
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.parts.correspondence import one_pair
from mmalign.objectives.parts.levels import known, level_of
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput, Tokens


class TransportObjective(ScaledObjective):
    """Contrastive loss on the optimal transport similarity of two token sets.

        score_ij = sum_kr P_kr <k, r>     P = entropic transport plan of the tokens of a_i and b_j at cost 1 - <k, r>
        loss     = CLIP's cross-entropy of scale x score, over rows and columns

    Sinkhorn distances: Cuturi 2013, arXiv 1306.0895; unbalanced: Chizat et al. 2018, arXiv 1607.05816; partial: Chapel
    et al. 2020, arXiv 2002.08276. A pair's score depends on that pair alone. Several terms of one pair make the levels
    of ORMA (arXiv 2411.11875): `clip` on vectors, `transport` from tokens to parts, and from parts to parts.

    Args:
        initial_scale: Initial factor of the similarities.
        max_scale: The scale is clamped to this value after each step; null = no limit.
        level_a: Level of tower a: tokens, or parts where its encoder returns them.
        level_b: Level of tower b.
        epsilon: Entropic regularisation, in units of the cost: large = every token is matched with all.
        rho_a: Unbalanced transport: cost per unit of unmatched mass of tower a; null = every token must be matched.
        rho_b: The same for tower b, for instance where some words describe nothing in the image.
        mass: Partial transport: fraction of the mass that is transported, in (0, 1]; the tokens without a counterpart
            are left out at no cost, for pairs that match in part. Null = all. Excludes `rho_a` and `rho_b`.
        tolerance: L1 error of the marginals at which the solver stops.
        max_iterations: Maximum number of solver iterations.
        gradient: envelope (the plan is a constant), implicit, or last_step (also through the plan).

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.eye(2)[:, None], torch.ones(2, 1, dtype=torch.bool))
        >>> embedding = Embedding(torch.eye(2), tokens=tokens)
        >>> TransportObjective().similarity(embedding, embedding)
        tensor([[1., 0.],
                [0., 1.]])
    """

    def __init__(
        self,
        initial_scale: float = 1 / 0.07,
        max_scale: float | None = 100.0,
        level_a: str = "tokens",
        level_b: str = "tokens",
        epsilon: float = 0.05,
        rho_a: float | None = None,
        rho_b: float | None = None,
        mass: float | None = None,
        tolerance: float = 1e-2,
        max_iterations: int = 50,
        gradient: Gradient = "envelope",
    ) -> None:
        super().__init__(initial_scale, max_scale)
        numbers = {"epsilon": epsilon, "rho_a": rho_a, "rho_b": rho_b, "tolerance": tolerance}
        for name, value in numbers.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"transport: {name}: expected a finite number above 0, got {value}")
        if mass is not None and not 0 < mass <= 1:
            raise UserError(f"transport: mass: expected a fraction above 0 and at most 1, got {mass}")
        if mass is not None and (rho_a is not None or rho_b is not None):
            raise UserError("transport: mass and rho_a or rho_b exclude each other; set one of them to null")
        if max_iterations < 1:
            raise UserError(f"transport: max_iterations: expected at least 1, got {max_iterations}")
        if gradient not in get_args(Gradient):
            raise UserError(f"transport: gradient: expected one of {', '.join(get_args(Gradient))}, got {gradient!r}")
        self.level_a, self.level_b = known(level_a), known(level_b)
        self.needs = frozenset({level_a, level_b})
        self.solver = _Solver(
            epsilon=epsilon, rho_a=rho_a, rho_b=rho_b, mass=mass,
            tolerance=tolerance, max_iterations=max_iterations, gradient=gradient,
        )  # fmt: skip

    def tower_needs(self, tower: Literal["a", "b"]) -> frozenset[str]:
        """Level of tower a or of tower b."""
        return frozenset({self.level_a if tower == "a" else self.level_b})

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """Cross-entropy of the similarities along rows and columns, columns merged over processes."""
        scores = self._scores(level_of(a, self.level_a), global_batch.gather(level_of(b, self.level_b)))
        scale, own, groups = self.scale.to(scores.dtype), global_batch.own, global_batch.groups
        loss = partial_similarity_cross_entropy(
            scale * scores, rows=own, groups=groups, merge=distributed.merge_logsumexp
        )
        return LossOutput(loss, {"scale": scale.detach()[0]})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Mean token similarity under the plan of every pair, `(len(a), len(b))`."""
        return self._scores(level_of(a, self.level_a), level_of(b, self.level_b))

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Transport plan of one pair of samples, `(tokens_a, tokens_b)`: the mass from token to token, sum 1."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        dots, _ = one_pair(own, other)
        solver: _Solver = {**self.solver, "gradient": "envelope"}
        return transport_plan(dots[None], own.mask, other.mask, **solver)[0]

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Mean similarity under the plan of row i of `a` and row i of `b`, `(len(a),)`: one transport problem a row."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        first, second = (one.values.masked_fill(~one.mask[:, :, None], 0.0) for one in (own, other))
        with torch.autocast(first.device.type, enabled=False):
            alike = torch.bmm(*(one.to(_dtype(first, second)) for one in (first, second.transpose(1, 2))))
            return (transport_plan(alike, own.mask, other.mask, **self.solver) * alike).sum((1, 2))

    def _scores(self, a: Tokens, b: Tokens) -> Tensor:
        return transport_scores(a.values, a.mask, b.values, b.mask, **self.solver)


class _Solver(TypedDict):
    epsilon: float
    rho_a: float | None
    rho_b: float | None
    mass: float | None
    tolerance: float
    max_iterations: int
    gradient: Gradient


def _dtype(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
