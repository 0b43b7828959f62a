"""The contract of an objective, and the sum over pairs that a model is trained with."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.types import Embedding, LossOutput

SQUARE = 8
"""Side of the squares of scores in `Objective.similarity_pairwise`: small ones waste little, large ones call seldom."""


class Objective(nn.Module):
    """A loss between two sides whose rows answer to each other, and the similarity it trains.

    Rows are this process's own: an objective gathers what it needs through `mmalign.distributed`, so that value and
    every gradient, averaged over processes as DDP does, equal those of one process on the whole batch.

    Attributes:
        needs: The fields of `Embedding` that it reads, among vector, log_variance, tokens, parts, codes, residual. Only
            the heads that some objective needs are built. Of the class, or of the instance where arguments decide.
        scores: Names of other scores than the one it trains, for `similarity`.
        reaches: The sides that its gradient reaches; a teacher's side is not among them.
        mask_ratio: The share of tokens of its sides that are hidden from the encoders in training (`Encoder.hide`).
        mixes: Whether `forward` takes `mixed`, rows of side a that were made of two samples each.
    """

    needs: frozenset[str] = frozenset({"vector"})
    scores: tuple[str, ...] = ()
    reaches: frozenset[str] = frozenset({"a", "b"})
    mask_ratio: float = 0.0
    mixes: bool = False

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """The loss of paired rows; rows of equal `groups` (batch,) are positives of each other too."""
        raise TypeError(f"{type(self).__name__} must define forward(a, b, groups) -> LossOutput")

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity of every row of `a` with every row of `b`, `(len(a), len(b))`: higher = more alike.

        A pair's score depends on that pair alone. `score` is one of `scores`, "" = the score that was trained.
        """
        raise TypeError(f"{type(self).__name__} must define score(a, b) -> Tensor")

    def correspondence(self, a: Embedding, b: Embedding) -> Tensor:
        """Which tokens of one sample answer to which of another, `(tokens_a, tokens_b)`: not negative, 0 beside pads.

        Optional. Rows and columns are tokens, or parts where that is what it needs of the side.
        """
        raise UserError(
            f"{type(self).__name__} compares whole samples, so no token of one answers to a token of the other; "
            "objectives that can say: transport, late_interaction, fdt, local"
        )

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Similarity of each row of `a` with the row of `b` beside it, `(len(a),)`: the diagonal of `score`.

        This one makes small squares of scores and keeps their diagonals; objectives that can do better do.
        """
        asked = [score] if score else []  # an objective without scores need not know the word
        made = []
        for start in range(0, len(a), SQUARE):
            rows = slice(start, start + SQUARE)
            made.append(self.similarity(a[rows], b[rows], *asked).diagonal())
        return torch.cat(made) if made else self.similarity(a, b, *asked).flatten()

    def side_needs(self, side: Literal["a", "b"]) -> frozenset[str]:
        """What it reads of one side, where the sides differ."""
        return self.needs

    def after_step(self) -> None:
        """Put learnt constants back into their range; called after every optimiser step."""
