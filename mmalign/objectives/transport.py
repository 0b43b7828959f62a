"""Optimal transport as an objective: two samples are alike when the tokens of one move cheaply onto the other's."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.correspondence import one_pair
from mmalign.objectives.distributed_rows import Rows
from mmalign.objectives.functional.similarity_cross_entropy import table_share
from mmalign.objectives.functional.transport.set_similarity import transport_scores
from mmalign.objectives.functional.transport.sinkhorn import Gradient, sinkhorn
from mmalign.objectives.levels import known, level_of
from mmalign.objectives.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput, Tokens


class TransportObjective(ScaledObjective):
    """Contrastive loss over the similarity that optimal transport leaves between two sets of tokens.

    The score of a pair is the mass-weighted similarity under its own plan, `sum P <k, r>`, so transport itself is
    trained, and a pair's score depends on that pair alone. Several terms of one pair make ORMA's levels: `clip` on
    vectors, `transport` from tokens to parts, and from parts to parts.

    Args:
        initial_scale: What multiplies the similarities at first.
        max_scale: The scale is put back to this after a step; null leaves it free.
        level_a: What side a is a set of: tokens, or the encoder's parts.
        level_b: The same for side b.
        epsilon: Weight of the entropy, in units of the cost `1 - cosine`.
        rho_a: What a unit of mass left behind on side a costs; null: every token must move.
        rho_b: The same for side b: set it where some words have no counterpart.
        tolerance: Error of the marginals at which a problem is done.
        max_iterations: Where the solver stops in any case.
        gradient: envelope (the plan as a constant), implicit, or last_step.

    Example:
        >>> import torch
        >>> side = Embedding(torch.eye(2), tokens=Tokens(torch.eye(2)[:, None], torch.ones(2, 1, dtype=torch.bool)))
        >>> TransportObjective().similarity(side, side)
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
        tolerance: float = 1e-2,
        max_iterations: int = 50,
        gradient: Gradient = "envelope",
    ) -> None:
        super().__init__(initial_scale, max_scale)
        prices = {"epsilon": epsilon, "rho_a": rho_a, "rho_b": rho_b, "tolerance": tolerance}
        for name, value in prices.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"transport: {name}: expected a finite number above 0, got {value}")
        if max_iterations < 1:
            raise UserError(f"transport: max_iterations: expected at least 1, got {max_iterations}")
        if gradient not in get_args(Gradient):
            raise UserError(f"transport: gradient: expected one of {', '.join(get_args(Gradient))}, got {gradient!r}")
        self.level_a, self.level_b = known(level_a), known(level_b)
        self.needs = frozenset({level_a, level_b})
        self.epsilon, self.rho_a, self.rho_b = epsilon, rho_a, rho_b
        self.tolerance, self.max_iterations, self.gradient = tolerance, max_iterations, gradient

    def side_needs(self, side: Literal["a", "b"]) -> frozenset[str]:
        """The level of that side."""
        return frozenset({self.level_a if side == "a" else self.level_b})

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """Cross-entropy of the scores along rows and columns, over the rows of every process."""
        rows = Rows.of(a, b, groups)
        own, every = level_of(a, self.level_a), distributed.gather_tokens(level_of(b, self.level_b), rows.counts)
        scores = self._scores(own, every)
        scale = self.scale.to(scores.dtype)
        loss = table_share(scale * scores, rows=rows.own, groups=rows.groups, merge=distributed.merge_logsumexp)
        return LossOutput(rows.share(loss), {"scale": scale.detach()[0]})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """The mass-weighted similarity of every pair, `(len(a), len(b))`."""
        return self._scores(level_of(a, self.level_a), level_of(b, self.level_b))

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """The plan of one pair, `(tokens_a, tokens_b)`: the mass that moves from token to token, 1 in all."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        dots, _ = one_pair(own, other)
        return sinkhorn(
            1 - dots[None], self.epsilon, mask_a=own.mask, mask_b=other.mask, rho_a=self.rho_a, rho_b=self.rho_b,
            tolerance=self.tolerance, max_iterations=self.max_iterations, gradient="envelope",
        ).plan[0]  # fmt: skip

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """The same of each row of `a` with the row of `b` beside it, `(len(a),)`: one problem a row."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        first, second = (one.values.masked_fill(~one.mask[:, :, None], 0.0) for one in (own, other))
        with torch.autocast(first.device.type, enabled=False):
            alike = torch.bmm(*(one.to(_dtype(first, second)) for one in (first, second.transpose(1, 2))))
            plan = sinkhorn(
                1 - alike, self.epsilon, mask_a=own.mask, mask_b=other.mask, rho_a=self.rho_a, rho_b=self.rho_b,
                tolerance=self.tolerance, max_iterations=self.max_iterations, gradient=self.gradient,
            ).plan  # fmt: skip
            return (plan * alike).sum((1, 2))

    def _scores(self, a: Tokens, b: Tokens) -> Tensor:
        return transport_scores(
            a.values, a.mask, b.values, b.mask, epsilon=self.epsilon, rho_a=self.rho_a, rho_b=self.rho_b,
            tolerance=self.tolerance, max_iterations=self.max_iterations, gradient=self.gradient,
        )  # fmt: skip


def _dtype(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
