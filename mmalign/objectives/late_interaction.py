"""FILIP as an objective: each token's maximum similarity over the other sample's tokens, averaged."""

from typing import Literal

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.functional.computing.similarity_cross_entropy import partial_similarity_cross_entropy
from mmalign.objectives.functional.late_interaction import keep_best_tokens, late_interaction
from mmalign.objectives.functional.token_correspondence import best_partners
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.parts.correspondence import one_pair
from mmalign.objectives.parts.levels import known, level_of
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput, Tokens


class LateInteractionObjective(ScaledObjective):
    """Contrastive loss over late interaction (FILIP, arXiv 2111.07783); the two directions have their own scores.

    Args:
        initial_scale: Initial factor of the similarities.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound.
        level_a: Level of tower a: tokens, or the encoder's parts.
        level_b: Level of tower b.
        keep: In training, the fraction of each sample's tokens among which the tokens of other samples find their
            maximum: those most similar to its own partner. Only these are communicated between processes. Its own
            tokens all look for a maximum, and the similarity in use reads all tokens. 1 = all.

    Example:
        >>> import torch
        >>> from mmalign.types import Tokens
        >>> tokens = Tokens(torch.eye(3)[:, None], torch.ones(3, 1, dtype=torch.bool))
        >>> embedding = Embedding(torch.eye(3), tokens=tokens)
        >>> LateInteractionObjective().similarity(embedding, embedding)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """

    def __init__(
        self,
        initial_scale: float = 1 / 0.07,
        max_scale: float | None = 100.0,
        level_a: str = "tokens",
        level_b: str = "tokens",
        keep: float = 1.0,
    ) -> None:
        super().__init__(initial_scale, max_scale)
        if not 0 < keep <= 1:
            raise UserError(f"late_interaction: keep: expected a fraction above 0 and at most 1, got {keep}")
        self.keep = keep
        self.level_a, self.level_b = known(level_a), known(level_b)
        self.needs = frozenset({level_a, level_b})

    def tower_needs(self, tower: Literal["a", "b"]) -> frozenset[str]:
        """The level of that tower."""
        return frozenset({self.level_a if tower == "a" else self.level_b})

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """Cross-entropy of `forth` along rows and of `back` along columns, merged over processes."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        if self.keep < 1:
            return self._loss_of_kept(own, other, global_batch)
        every = global_batch.gather(other)
        forth, back = late_interaction(own.values, own.mask, every.values, every.mask)
        scale = self.scale.to(forth.dtype)
        loss = partial_similarity_cross_entropy(
            scale * forth,
            scale * back,
            rows=global_batch.own,
            groups=global_batch.groups,
            merge=distributed.merge_logsumexp,
        )
        return LossOutput(loss, {"scale": scale.detach()[0]})

    def _loss_of_kept(self, a: Tokens, b: Tokens, global_batch: GlobalBatch) -> LossOutput:
        """The same, where each own token finds its maximum among the kept tokens of all samples of the other tower."""
        kept = Tokens(*keep_best_tokens(b.values, b.mask, a.values, a.mask, self.keep))
        candidates_b = global_batch.gather(kept)
        kept = Tokens(*keep_best_tokens(a.values, a.mask, b.values, b.mask, self.keep))
        candidates_a = global_batch.gather(kept)
        forth, _ = late_interaction(a.values, a.mask, candidates_b.values, candidates_b.mask)
        back, _ = late_interaction(b.values, b.mask, candidates_a.values, candidates_a.mask)
        scale = self.scale.to(forth.dtype)
        # Both tables have own rows and all columns: no column is divided between processes.
        rows, columns = (_cross_entropy(scale * scores, global_batch.positives) for scores in (forth, back))
        return LossOutput(global_batch.mean((rows + columns) / 2), {"scale": scale.detach()[0]})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """The mean of both directions, `(len(a), len(b))`."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        forth, back = late_interaction(own.values, own.mask, other.values, other.mask)
        return (forth + back) / 2

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Best match of each token, `(tokens_a, tokens_b)`, sum 1: see `functional.token_correspondence`."""
        return best_partners(*one_pair(level_of(a, self.level_a), level_of(b, self.level_b)))

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity of row i of `a` with row i of `b`, `(len(a),)`."""
        own, other = level_of(a, self.level_a), level_of(b, self.level_b)
        first, second = (one.values.masked_fill(~one.mask[:, :, None], 0.0) for one in (own, other))
        dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
        with torch.autocast(first.device.type, enabled=False):
            dots = torch.bmm(first.to(dtype), second.to(dtype).transpose(1, 2))
            forth = _mean(dots.masked_fill(~other.mask[:, None], -torch.inf).amax(2), own.mask)
            back = _mean(dots.masked_fill(~own.mask[:, :, None], -torch.inf).amax(1), other.mask)
        return torch.where(own.mask.any(1) & other.mask.any(1), (forth + back) / 2, 0.0)


def _cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy of each row to its positives, evenly, `(rows,)`."""
    weights = positives.to(logits.dtype) / positives.sum(1, keepdim=True)
    return logits.logsumexp(1) - (weights * logits).sum(1)


def _mean(best: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, best, 0.0).sum(1) / mask.sum(1).clamp(min=1)
