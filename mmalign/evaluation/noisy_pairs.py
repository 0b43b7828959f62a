"""Which training pairs are doubtful: an order by how little they match, or by how unsure the model is of them."""

from typing import Literal

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.types import Embedding


def pair_scores(model: Aligner, a: Embedding, b: Embedding, *, score: str = "", block: int = 256) -> Tensor:
    """The score of each row of `a` with the row of `b` beside it, `(n,)`, on the CPU, a block of rows at a time.

    Args:
        model: Whose score it is.
        a: `n` rows of one tower.
        b: The same rows of another.
        score: Another score that the pair's objective offers: `probability` of a match under pcmepp.
        block: Rows scored at once.

    Raises:
        UserError: unequal numbers of rows.
    """
    if len(a) != len(b):
        raise UserError(f"pairs: expected as many rows on both sides, got {len(a)} and {len(b)}")
    slices = [slice(start, start + block) for start in range(0, len(a), block)]
    with torch.no_grad():
        sides = ((a[rows].to(model.device), b[rows].to(model.device)) for rows in slices)
        parts = [model.similarity_pairwise(*side, score).float().cpu() for side in sides]
    return torch.cat([torch.zeros(0), *parts])


def pair_order(
    model: Aligner,
    a: Embedding,
    b: Embedding,
    *,
    by: Literal["score", "variance"] = "score",
    score: str = "",
) -> Tensor:
    """Places of the pairs, the most doubtful first: what to read again, or to leave out of the next training.

    Args:
        model: A trained one, best on pairs that it was not trained on.
        a: `n` rows of one tower.
        b: The same rows of another.
        by: score, the worst match first, or variance, the largest sum of both sides' uncertainties first.
        score: Another score that the pair's objective offers.

    Returns:
        `(n,)` long; equal ones keep their order.

    Raises:
        UserError: another `by`, unequal numbers of rows, or a variance that the model does not say.
    """
    if by not in ("score", "variance"):
        raise UserError(f"pairs: expected by score or variance, got {by!r}")
    scores = pair_scores(model, a, b, score=score)
    return (scores if by == "score" else -(a.uncertainty + b.uncertainty)).argsort(stable=True)
