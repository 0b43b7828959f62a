"""Token alignment within a sample (MGCA) as an objective."""

from typing import Literal

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.base import Objective
from mmalign.objectives.functional.late_interaction import late_interaction
from mmalign.objectives.functional.local import local_alignment, unit_tokens
from mmalign.types import Embedding, LossOutput, Tokens

Grain = Literal["tokens", "parts"]


class LocalObjective(Objective):
    """What a token sees of the other side of its own sample should be its own (MGCA, arXiv 2210.06044).

    `functional.local_alignment_loss`, with all tokens weighing the same. It compares nothing across samples, and it
    sharpens the matching of tokens that it meets, right or wrong, rather than finding one: a term beside a contrastive
    one, perhaps faded in. `groups` mean nothing to it.

    Args:
        grain: What is aligned: tokens (the finest) or parts (phrases, motifs, beats).
        attention_temperature: Divides the dot products under the attention.
        temperature: Divides those under the contrast.

    Example:
        >>> objective, grains = LocalObjective(), Tokens(torch.eye(4)[None], torch.ones(1, 4).bool())
        >>> side = Embedding(torch.ones(1, 4) / 2, tokens=grains)
        >>> round(float(objective(side, side).loss), 4)
        0.0003
    """

    def __init__(self, grain: Grain = "tokens", attention_temperature: float = 0.1, temperature: float = 0.1) -> None:
        super().__init__()
        if grain not in ("tokens", "parts"):
            raise UserError(f"grain: expected tokens or parts, got {grain!r}")
        if not (attention_temperature > 0 and temperature > 0):
            raise UserError(f"temperatures: expected above 0, got {attention_temperature} and {temperature}")
        self.grain, self.needs = grain, frozenset({grain})
        self.attention_temperature, self.temperature = attention_temperature, temperature

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """The share of the mean over the samples, of every process, that have tokens on both sides.

        Terms:
            counted: The share of the samples that have.
        """
        x, y = self._grains("a", a), self._grains("b", b)
        each, counts = local_alignment(
            x.values,
            x.mask,
            y.values,
            y.mask,
            attention_temperature=self.attention_temperature,
            temperature=self.temperature,
        )
        # No rows are needed from elsewhere, only how many there are: own sum / all counted * processes.
        some, rows = distributed.all_reduce_sum(torch.stack([counts.sum(), torch.ones_like(counts).sum()]))
        loss = each.sum() * distributed.world_size() / some.clamp(min=1)
        return LossOutput(loss, {"counted": some / rows.clamp(min=1)})

    def score(self, a: Embedding, b: Embedding, mode: str = "") -> Tensor:
        """The mean of both directions of `functional.late_interaction`, on tokens of length one: `(len(a), len(b))`."""
        x, y = self._grains("a", a), self._grains("b", b)
        forth, back = late_interaction(
            unit_tokens("a", x.values, x.mask), x.mask, unit_tokens("b", y.values, y.mask), y.mask
        )
        return (forth + back) / 2

    def _grains(self, side: str, embedding: Embedding) -> Tokens:
        grains = embedding.tokens if self.grain == "tokens" else embedding.parts
        if grains is None:
            raise UserError(f"side {side}: expected an embedding with {self.grain}, and there are none")
        return grains
