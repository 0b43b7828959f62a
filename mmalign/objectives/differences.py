"""Direction of change: the difference of two samples points the same way in both towers (LAE, StyleGAN-NADA)."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import cosines, paired_cosines
from mmalign.objectives.functional.computing.matmul import dot_products
from mmalign.objectives.functional.distillation import refuse_not_finite
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput

Partner = Literal["next", "group"]

LEAST = 1e-3
"""Shortest difference that has a direction; between nearly equal vectors it is noise."""


class DifferencesObjective(Objective):
    """Matches the differences between samples instead of the samples (the directional loss of LAE, arXiv 2406.04413).

        da_i = unit(a_i - a_p(i)),  db_i = unit(b_i - b_p(i)),  p(i) = partner of row i
        contrast   mean of both directions of the cross-entropy of da_i . db_j / t, with j = i the positive
        else       mean of 1 - da_i . db_i

    For edits and analogies: with `partner: group` the samples of a group, such as a patient before and after, are each
    other's partners. It trains no matching alone, because a constant added to one tower changes nothing: use it beside
    `clip`. Rows whose difference is shorter than 1e-3 in some tower, or that have no partner, are left out.

    Args:
        partner: next: the next row of the global batch, the first for the last one; group: the next row of the same
            group.
        contrast: Whether the other rows' differences are negatives.
        temperature: t, divides the dot products.

    Example:
        >>> a = Embedding(torch.eye(4))
        >>> DifferencesObjective(contrast=False)(a, Embedding(torch.eye(4) + 5)).loss.round(decimals=5)  # of a constant
        tensor(0.)
        >>> DifferencesObjective(contrast=False)(a, Embedding(-torch.eye(4))).loss
        tensor(2.)
    """

    def __init__(self, partner: Partner = "next", contrast: bool = True, temperature: float = 0.1) -> None:
        super().__init__()
        if partner not in ("next", "group"):
            raise UserError(f"differences: partner: expected next or group, got {partner!r}")
        if not 0 < temperature < math.inf:
            raise UserError(f"differences: temperature: expected a number above 0, got {temperature}")
        self.partner, self.contrast, self.temperature = partner, contrast, temperature

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The sum over own rows, divided by the number of rows of all processes that have a direction.

        Terms:
            counted: Fraction of the rows that have a direction in both towers.
        """
        dtype = torch.promote_types(torch.promote_types(a.vector.dtype, b.vector.dtype), torch.float32)
        towers = [global_batch.gather(one.vector.to(dtype)) for one in (a, b)]
        refuse_not_finite("differences", *towers)
        partners = self._partners(global_batch)
        raw = [every - every[partners] for every in towers]
        counts = torch.stack([one.detach().norm(dim=1) for one in raw]).amin(0) > LEAST
        first, second = (F.normalize(torch.where(counts[:, None], one, 0.0), dim=1, eps=1e-8) for one in raw)
        own, total = global_batch.own, counts.sum().clamp(min=1)
        if self.contrast:
            losses = (self._rows(first[own], second, counts, own) + self._rows(second[own], first, counts, own)) / 2
        else:
            losses = 1 - (first[own] * second[own]).sum(1)
        linked = 0.0 * (first[own].sum() + second[own].sum())
        fraction = counts.sum() / max(global_batch.size, 1)
        return LossOutput(torch.where(counts[own], losses, 0.0).sum() / total + linked, {"counted": fraction.to(dtype)})

    def _rows(self, own: Tensor, every: Tensor, counts: Tensor, rows: slice) -> Tensor:
        logits = dot_products(own, every) / self.temperature
        far = logits.masked_fill(~counts, -1e30)
        return far.logsumexp(1) - logits.diagonal(rows.start)

    def _partners(self, global_batch: GlobalBatch) -> Tensor:
        """Index of each row's partner among all rows, `(all rows,)`; its own index if it has none."""
        groups = global_batch.groups
        if self.partner == "next":
            return torch.arange(len(groups), device=groups.device).roll(-1)
        order = groups.argsort(stable=True)
        numbered = groups[order]
        following = order.roll(-1)
        first = order[torch.searchsorted(numbered, numbered)]  # of the same group
        same = numbered.roll(-1) == numbered
        return torch.empty_like(order).scatter_(0, order, torch.where(same, following, first))

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of row i of `a` with row i of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)

    def extra_repr(self) -> str:
        return f"partner={self.partner}, contrast={self.contrast}, temperature={self.temperature}"
