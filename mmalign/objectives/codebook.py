"""FDT as an objective: contrastive loss of sparse mixtures over a codebook that all towers share."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective, cosines
from mmalign.objectives.functional.code_statistics import code_sums, statistics_of
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.objectives.parts.correspondence import Coded, one_pair
from mmalign.types import Embedding, LossOutput, Tokens


class FdtObjective(Objective):
    """CLIP's loss on the grounded vectors: each sample is a sparse mixture of shared codes (FDT, arXiv 2303.14865).

    The codes and their temperature belong to the model (`codebook`), the query heads to each tower. The loss uses the
    grounded vectors only; to train global vectors too, list a second term, `objective: clip`, for the same pair.

    Args:
        initial_scale: Initial factor of the cosines.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound.
        learn_scale: Whether the scale is trained.

    Terms:
        live: fraction of codes with weight in some sample of this process's rows (mean of both towers); perplexity:
        effective number of codes in use (exponential of the usage entropy); support: mean number of codes per sample.

    Example:
        >>> codes = torch.eye(3)
        >>> embedding = Embedding(codes, codes=codes, grounded=codes)
        >>> sorted(FdtObjective()(embedding, embedding).terms)
        ['live', 'perplexity', 'scale', 'support']
    """

    needs = frozenset({"codes"})
    scores = ("codes",)

    def __init__(
        self, initial_scale: float = 1 / 0.07, max_scale: float | None = 100.0, learn_scale: bool = True
    ) -> None:
        super().__init__()
        self.clip = ClipObjective(initial_scale, max_scale, learn_scale)

    @property
    def scale(self) -> Tensor:
        """Factor of the cosines, `(1,)`."""
        return self.clip.scale

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The loss of `clip`, on grounded vectors."""
        weights = _codes(a), _codes(b)
        grounded = replace(a, vector=_grounded(a)), replace(b, vector=_grounded(b))
        output = self.clip.partial_loss(*grounded, global_batch)
        sums = [code_sums(codes, 1 / codes.shape[1] / 100) for codes in weights]
        used = [statistics_of(*map(distributed.all_reduce_sum, tower)) for tower in sums]
        means = {name: torch.stack([getattr(one, name) for one in used]).mean() for name in used[0]._fields}
        return LossOutput(output.loss, {**output.terms, **means})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of the grounded vectors, `(len(a), len(b))`; `codes`: cosine of the weights over the codes."""
        if score == "codes":
            return cosines(F.normalize(_codes(a), dim=1), F.normalize(_codes(b), dim=1))
        return cosines(_grounded(a), _grounded(b))

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Contribution of each pair of tokens to the code overlap of two samples, `(tokens_a, tokens_b)`.

        The sum is `<codes_a, codes_b>`. Embeddings must be `Coded` (from `evaluation.explain`): others do not store the
        contribution of each token.
        """
        return one_pair(_token_codes(a), _token_codes(b))[0]

    def after_step(self) -> None:
        """Keep the scale at or below its upper bound."""
        self.clip.after_step()


def _codes(embedding: Embedding) -> Tensor:
    if embedding.codes is None:
        raise UserError(f"embeddings of {embedding.tower or 'this tower'} have no codes: no codebook grounded them")
    return embedding.codes


def _grounded(embedding: Embedding) -> Tensor:
    if embedding.grounded is None:
        raise UserError(f"embeddings of {embedding.tower or 'this tower'} have no grounded vector beside their codes")
    return embedding.grounded


def _token_codes(embedding: Embedding) -> Tokens:
    if not isinstance(embedding, Coded) or embedding.token_codes is None:
        raise UserError("expected an embedding that keeps the codes of each token; mmalign.explain computes them")
    return embedding.token_codes
