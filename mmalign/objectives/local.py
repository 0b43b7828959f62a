"""Token alignment within a sample (MGCA) as an objective."""

import math

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.functional.late_interaction import late_interaction
from mmalign.objectives.functional.local_alignment import clip_quantiles, local_alignment, unit_tokens
from mmalign.objectives.functional.token_correspondence import attention_shares
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.objectives.parts.correspondence import one_pair
from mmalign.objectives.parts.levels import known, level_of
from mmalign.types import Embedding, LossOutput, Tokens


class LocalObjective(Objective):
    """Token-level contrastive loss within each sample (MGCA, arXiv 2210.06044).

    `functional.local_alignment_loss`, with equal token weights or those of the encoders. It compares no tokens across
    samples and sharpens the current matching of tokens, right or wrong: use it as a second term beside a contrastive
    one, with a warm-up `schedule`. `groups` are ignored. The released code does not normalise what the patches of a
    vision transformer attend to; here all attended vectors have length one.

    Args:
        level: The aligned level: tokens (the finest) or parts (phrases, motifs, beats).
        attention_temperature: Divides the dot products of the attention.
        temperature: Divides the dot products of the contrastive softmax.
        weighted: Whether tokens count by the weights of their encoder (`Tokens.weight`: the attention of its pooling or
            class token), clipped to their 10 % and 90 % quantiles as released. Both encoders need `token_weights:
            true`.

    Example:
        >>> from mmalign.types import Tokens
        >>> embedding = Embedding(torch.ones(1, 4) / 2, tokens=Tokens(torch.eye(4)[None], torch.ones(1, 4).bool()))
        >>> LocalObjective()(embedding, embedding).loss
        tensor(0.0003)
    """

    def __init__(
        self,
        level: str = "tokens",
        attention_temperature: float = 0.1,
        temperature: float = 0.1,
        weighted: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("attention_temperature", attention_temperature), ("temperature", temperature)):
            if not 0 < value < math.inf:
                raise UserError(f"{name}: expected a number above 0, got {value}")
        self.level, self.needs = known(level), frozenset({level})
        self.attention_temperature, self.temperature, self.weighted = attention_temperature, temperature, weighted

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The sum over own rows, divided by the number of rows of all processes that have tokens of both towers.

        Terms:
            counted: The fraction of rows that have tokens of both towers.
        """
        x, y = level_of(a, self.level), level_of(b, self.level)
        each, counts = local_alignment(
            x.values,
            x.mask,
            y.values,
            y.mask,
            attention_temperature=self.attention_temperature,
            temperature=self.temperature,
            weights_a=_weights(a, x) if self.weighted else None,
            weights_b=_weights(b, y) if self.weighted else None,
        )
        # Each row compares its own tokens only, so only the number of rows of other processes is needed.
        some, rows = distributed.all_reduce_sum(torch.stack([counts.sum(), torch.ones_like(counts).sum()]))
        return LossOutput(each.sum() / some.clamp(min=1), {"counted": some / rows.clamp(min=1)})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """The mean of both directions of `functional.late_interaction`, on tokens of length one: `(len(a), len(b))`."""
        x, y = level_of(a, self.level), level_of(b, self.level)
        units = unit_tokens("a", x.values, x.mask), unit_tokens("b", y.values, y.mask)
        forth, back = late_interaction(units[0], x.mask, units[1], y.mask)
        return (forth + back) / 2

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Attention weights, mean of both directions, `(tokens_a, tokens_b)`, sum 1."""
        x, y = level_of(a, self.level), level_of(b, self.level)
        units = Tokens(unit_tokens("a", x.values, x.mask), x.mask), Tokens(unit_tokens("b", y.values, y.mask), y.mask)
        return attention_shares(*one_pair(*units), self.attention_temperature)

    def extra_repr(self) -> str:
        return f"level={self.level}, weighted={self.weighted}"


def _weights(embedding: Embedding, tokens: Tokens) -> Tensor:
    if tokens.weight is None and not len(embedding):  # of a process without rows
        return tokens.values.new_zeros(tokens.mask.shape)
    if tokens.weight is None:
        raise UserError(
            f"local: weighted: the tokens of {embedding.tower or 'this tower'} have no weights; set its encoder's args "
            "to {token_weights: true}, where the encoder has it, or weighted to false"
        )
    return clip_quantiles(tokens.weight, tokens.mask)
