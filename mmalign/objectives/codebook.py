"""FDT as an objective: samples are told apart by the codes that all modalities share."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.base import Objective
from mmalign.objectives.contrastive import ClipObjective, cosines
from mmalign.objectives.correspondence import one_pair
from mmalign.objectives.functional.codebook import code_statistics
from mmalign.objectives.grains import grain_of
from mmalign.types import Embedding, LossOutput


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
    modes = ("codes",)

    def __init__(
        self, initial_scale: float = 1 / 0.07, max_scale: float | None = 100.0, learn_scale: bool = True
    ) -> None:
        super().__init__()
        self.clip = ClipObjective(initial_scale, max_scale, learn_scale)

    @property
    def scale(self) -> Tensor:
        """What multiplies the cosines, `(1,)`."""
        return self.clip.scale

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """`clip` of the grounded vectors, over the rows of every process."""
        weights = _codes(a), _codes(b)
        output = self.clip(replace(a, vector=_grounded(a)), replace(b, vector=_grounded(b)), groups)
        used = [code_statistics(side, threshold=1 / side.shape[1] / 100) for side in weights]
        means = {name: torch.stack([getattr(one, name) for one in used]).mean() for name in used[0]._fields}
        return LossOutput(output.loss, {**output.terms, **means})

    def score(self, a: Embedding, b: Embedding, mode: str = "") -> Tensor:
        """Cosine of the grounded vectors, `(len(a), len(b))`; `codes`: cosine of the weights over the codes."""
        if mode == "codes":
            return cosines(F.normalize(_codes(a), dim=1), F.normalize(_codes(b), dim=1))
        return cosines(_grounded(a), _grounded(b))

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """What two samples share over the codes, by the tokens that brought it, `(tokens_a, tokens_b)`.

        An embedding keeps no token's codes, so the `tokens` here are `functional.correspondence.code_shares`,
        `(1, tokens, codes)`, in place of vectors; `evaluation.explain` makes them. The sum is `<codes_a, codes_b>`.
        """
        sides = grain_of(a, "tokens"), grain_of(b, "tokens")
        for side, tokens in zip((a, b), sides, strict=True):
            if tokens.values.shape[2] != _codes(side).shape[1]:
                raise UserError(
                    f"expected the weights of each token over {_codes(side).shape[1]} codes as tokens, got vectors of "
                    f"{tokens.values.shape[2]}; evaluation.explain makes them"
                )
        return one_pair(*sides)[0]

    def after_step(self) -> None:
        """Keep the scale at or below its cap."""
        self.clip.after_step()


def _codes(side: Embedding) -> Tensor:
    if side.codes is None:
        raise UserError(f"embeddings of {side.modality or 'this tower'} have no codes: no codebook grounded them")
    return side.codes


def _grounded(side: Embedding) -> Tensor:
    if side.grounded is None:
        raise UserError(f"embeddings of {side.modality or 'this tower'} have no grounded vector beside their codes")
    return side.grounded
