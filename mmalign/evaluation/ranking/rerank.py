"""Re-ranking: the cosine of vectors selects the first gallery items of each query, the full score orders them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mmalign.embedding.jagged import lengths_of
from mmalign.embedding.scoring import Block, demand_finite, margin_of, score_blocks
from mmalign.errors import UserError
from mmalign.types import Embedding

PairScore = Callable[[Embedding, Embedding], Tensor]

PAIRS = 512
"""Pairs of samples whose tokens are padded to one length at a time."""


def reranked_blocks(
    queries: Embedding,
    gallery: Embedding,
    *,
    score: PairScore,
    depth: int,
    pairs: int = 2**23,
    device: torch.device | str = "cpu",
) -> Iterator[Block]:
    """The cosines of vectors, the first `depth` of each query replaced by scores that stand above all others.

    With as many as the gallery holds, the list is that of the full score. Which of equal cosines are the last to be
    re-ranked is left to the order of the gallery.

    Args:
        queries: Tokens packed or padded.
        gallery: The same; no more of it is padded at once than a few hundred samples.
        score: Rows of queries and as many rows of the gallery -> the score of each row, `(rows,)`.
        depth: Number of gallery items per query that are re-ranked.
        pairs: Cosines held at once.
        device: Where scores are computed.

    Raises:
        UserError: depth is below 1, or a score is NaN or infinite.

    Example:
        >>> a, b = Embedding(torch.tensor([[1.0, 0.0]])), Embedding(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
        >>> block = next(reranked_blocks(a, b, score=lambda a, b: b.vector[:, 1], depth=2))
        >>> block.scores.argsort(descending=True)  # the third was not asked
        tensor([[1, 0, 2]])
    """
    if depth < 1:
        raise UserError(f"--rerank: expected the number of gallery items per query to re-rank, at least 1, got {depth}")
    depth = min(depth, len(gallery))
    sizes = lengths_of(queries), lengths_of(gallery)
    for start, rough in score_blocks(_vectors(queries), _vectors(gallery), score=_cosines, pairs=pairs, device=device):
        demand_finite(rough, queries, gallery, start)
        top = rough.topk(depth, dim=1).indices
        rows, columns = torch.arange(len(top)).repeat_interleave(depth) + start, top.flatten().cpu()
        fine = torch.empty(len(rows), device=rough.device)
        for some in _alike(*sizes, rows, columns).split(PAIRS):  # type: ignore[no-untyped-call]
            with torch.no_grad():
                made = score(queries[rows[some]].to(device), gallery[columns[some]].to(device))
            fine[some.to(fine.device)] = made.float()
        demand_finite(fine.view_as(top), queries, gallery, start)
        yield _joined(start, rough, top, fine.view_as(top))


def _joined(start: int, rough: Tensor, top: Tensor, fine: Tensor) -> Block:
    # Cosines move below the lowest full score; each keeps the margin of its own kind.
    margins = margin_of(rough).double(), margin_of(fine).double()
    fine = fine.double()
    floor = fine.amin(dim=1, keepdim=True) - 1 - margins[0] - margins[1]
    scores = rough.double() - rough.amax(dim=1, keepdim=True) + floor
    margin = margins[0].expand_as(scores).scatter(1, top, margins[1].expand_as(fine))
    return Block(start, scores.scatter(1, top, fine), margin)


def _alike(of_rows: Tensor | None, of_columns: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor:
    """Places of the pairs in an order in which neighbours have tokens of about the same number: little is padding."""
    if of_rows is None or of_columns is None:
        return torch.arange(len(rows))
    return ((of_columns.cpu()[columns] // 8) * 2**20 + of_rows.cpu()[rows]).argsort(stable=True)


def _vectors(side: Embedding) -> Embedding:
    return Embedding(side.vector, tower=side.tower)


def _cosines(a: Embedding, b: Embedding) -> Tensor:
    return a.vector @ b.vector.T
