"""CG-VLM's contrastive loss: the similarity of all token pairs, averaged."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from mmalign.objectives.contrastive import ClipObjective, cosines, paired_cosines
from mmalign.objectives.functional.token_correspondence import positive_shares
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.objectives.parts.correspondence import one_pair
from mmalign.objectives.parts.levels import Level, known, level_of
from mmalign.types import Embedding, LossOutput


class TokenMeanObjective(Objective):
    """CLIP's loss on the mean similarity of all pairs of tokens (CG-VLM, Liu et al. 2023, arXiv 2311.17945).

        score_ij = mean over tokens k of a_i and r of b_j of  <k, r>  =  (mean of k) . (mean of r)

    The means are not normalised: a mean is short where the tokens of a sample disagree, and lowers all its scores. With
    normalised means it would be `clip` on mean-pooled tokens. Cost and memory are those of `clip`.

    Args:
        initial_scale: Initial factor of the similarities.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound.
        level_a: Level of tower a: tokens, or the encoder's parts.
        level_b: Level of tower b.

    Example:
        >>> from mmalign.types import Tokens
        >>> a = Embedding(torch.eye(2), tokens=Tokens(torch.eye(2)[None], torch.ones(1, 2).bool()))
        >>> b = Embedding(torch.eye(2), tokens=Tokens(torch.eye(2)[None, :1], torch.ones(1, 1).bool()))
        >>> TokenMeanObjective().similarity(a, b)  # of two tokens of a, one finds its like
        tensor([[0.5000]])
    """

    def __init__(
        self,
        initial_scale: float = 1 / 0.07,
        max_scale: float | None = 100.0,
        level_a: str = "tokens",
        level_b: str = "tokens",
    ) -> None:
        super().__init__()
        self.level_a, self.level_b = known(level_a), known(level_b)
        self.needs = frozenset({level_a, level_b})
        self.clip = ClipObjective(initial_scale, max_scale)

    @property
    def scale(self) -> Tensor:
        """Factor of the similarities, `(1,)`."""
        return self.clip.scale

    def tower_needs(self, tower: Literal["a", "b"]) -> frozenset[str]:
        """The level of that tower."""
        return frozenset({self.level_a if tower == "a" else self.level_b})

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The loss of `clip` on the means."""
        means = replace(a, vector=_mean(a, self.level_a)), replace(b, vector=_mean(b, self.level_b))
        return self.clip.partial_loss(*means, global_batch)

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Mean similarity of all pairs of tokens, `(len(a), len(b))`; 0 for a sample without tokens."""
        return cosines(_mean(a, self.level_a), _mean(b, self.level_b))

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Mean similarity of the tokens of row i of `a` with those of row i of `b`, `(len(a),)`."""
        return paired_cosines(_mean(a, self.level_a), _mean(b, self.level_b))

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Positive similarities of the tokens, `(tokens_a, tokens_b)`, sum 1."""
        return positive_shares(*one_pair(level_of(a, self.level_a), level_of(b, self.level_b)))

    def after_step(self) -> None:
        """Keep the scale at or below its upper bound."""
        self.clip.after_step()


def _mean(embedding: Embedding, level: Level) -> Tensor:
    tokens = level_of(embedding, level)
    values = tokens.values.to(torch.promote_types(tokens.values.dtype, torch.float32))
    total = values.masked_fill(~tokens.mask[:, :, None], 0.0).sum(1)
    return total / tokens.mask.sum(1, keepdim=True).clamp(min=1)
