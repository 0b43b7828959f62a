"""FDT as an objective: samples are told apart by the codes that all modalities share."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective, cosines
from mmalign.objectives.correspondence import Coded, one_pair
from mmalign.objectives.functional.sparse_codebook import code_statistics
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput, Tokens


class FdtObjective(Objective):
    """CLIP's loss on what each sample is made of: a sparse mixture of shared codes (FDT, arXiv 2303.14865).

    The codes and their temperature are the model's (`codebook`), the queries each tower's own. Only grounded vectors
    enter; for global vectors beside them list a second term, `objective: clip`, for the same pair.

    Args:
        initial_scale: What multiplies the cosines at first.
        max_scale: The scale is put back to this after a step; null leaves it free.
        learn_scale: Whether the scale is trained.

    Terms:
        live: the share of codes that some sample of this process's rows uses (mean of both sides); perplexity: how many
        codes are in use, by the entropy of their usage; support: how many a sample uses.

    Example:
        >>> codes = torch.eye(3)
        >>> side = Embedding(codes, codes=codes, grounded=codes)
        >>> sorted(FdtObjective()(side, side).terms)
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
        """What multiplies the cosines, `(1,)`."""
        return self.clip.scale

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The loss of `clip`, on grounded vectors."""
        weights = _codes(a), _codes(b)
        grounded = replace(a, vector=_grounded(a)), replace(b, vector=_grounded(b))
        output = self.clip.partial_loss(*grounded, global_batch)
        used = [code_statistics(side, threshold=1 / side.shape[1] / 100) for side in weights]
        means = {name: torch.stack([getattr(one, name) for one in used]).mean() for name in used[0]._fields}
        return LossOutput(output.loss, {**output.terms, **means})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of the grounded vectors, `(len(a), len(b))`; `codes`: cosine of the weights over the codes."""
        if score == "codes":
            return cosines(F.normalize(_codes(a), dim=1), F.normalize(_codes(b), dim=1))
        return cosines(_grounded(a), _grounded(b))

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """What two samples share over the codes, by the tokens that brought it, `(tokens_a, tokens_b)`.

        The sum is `<codes_a, codes_b>`. Embeddings are `Coded`, as `evaluation.explain` makes them: others do not keep
        what each token brought.
        """
        return one_pair(_token_codes(a), _token_codes(b))[0]

    def after_step(self) -> None:
        """Keep the scale at or below its cap."""
        self.clip.after_step()


def _codes(side: Embedding) -> Tensor:
    if side.codes is None:
        raise UserError(f"embeddings of {side.tower or 'this tower'} have no codes: no codebook grounded them")
    return side.codes


def _grounded(side: Embedding) -> Tensor:
    if side.grounded is None:
        raise UserError(f"embeddings of {side.tower or 'this tower'} have no grounded vector beside their codes")
    return side.grounded


def _token_codes(side: Embedding) -> Tokens:
    if not isinstance(side, Coded) or side.token_codes is None:
        raise UserError("expected an embedding that keeps the codes of each token; evaluation.explain makes them")
    return side.token_codes
