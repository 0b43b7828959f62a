"""Re-ranking: the cosine of vectors selects the first gallery items of each query, the full score orders them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mmalign.embedding.jagged import lengths_of
from mmalign.embedding.scoring import Block, demand_finite, inner_product, margin_of, score_blocks
from mmalign.errors import UserError
from mmalign.safe_io.progress import track
from mmalign.types import Embedding

PairScore = Callable[[Embedding, Embedding], Tensor]

PAIRS = 512
"""Number of pairs of samples whose tokens are padded to one length at a time."""


def reranked_blocks(
    queries: Embedding,
    gallery: Embedding,
    *,
    score: PairScore,
    depth: int,
    pairs: int = 2**23,
    device: torch.device | str = "cpu",
) -> Iterator[Block]:
    """Blocks of cosines in which the first `depth` items of each query have the full score, above all others.

    If `depth` is the gallery size, the ranking is that of the full score. Among equal cosines at the cut, gallery order
    decides.

    Args:
        queries: Embedded queries, tokens jagged or padded.
        gallery: Embedded gallery, likewise; at most a few hundred samples are padded at once.
        score: Rows of queries and as many rows of the gallery -> score of each pair, `(rows,)`.
        depth: Number of gallery items per query that are re-ranked.
        pairs: Maximum number of cosines in memory.
        device: Device of the scores.

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
    for start, rough in score_blocks(
        _vectors(queries), _vectors(gallery), score=inner_product, pairs=pairs, device=device
    ):
        demand_finite(rough, queries, gallery, start)
        top = rough.topk(depth, dim=1).indices
        rows, columns = torch.arange(len(top)).repeat_interleave(depth) + start, top.flatten().cpu()
        fine = torch.empty(len(rows), device=rough.device)
        chunks = _alike(*sizes, rows, columns).split(PAIRS)  # type: ignore[no-untyped-call]
        for some in track(chunks, "re-ranking"):
            with torch.no_grad():
                scores = score(queries[rows[some]].to(device), gallery[columns[some]].to(device))
            fine[some.to(fine.device)] = scores.float()
        demand_finite(fine.view_as(top), queries, gallery, start)
        yield _joined(start, rough, top, fine.view_as(top))


def _joined(start: int, rough: Tensor, top: Tensor, fine: Tensor) -> Block:
    # Cosines are shifted below the lowest full score; both keep their own tie margin.
    margins = margin_of(rough).double(), margin_of(fine).double()
    fine = fine.double()
    floor = fine.amin(dim=1, keepdim=True) - 1 - margins[0] - margins[1]
    scores = rough.double() - rough.amax(dim=1, keepdim=True) + floor
    margin = margins[0].expand_as(scores).scatter(1, top, margins[1].expand_as(fine))
    return Block(start, scores.scatter(1, top, fine), margin)


def _alike(of_rows: Tensor | None, of_columns: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor:
    """Indices of the pairs, ordered so that neighbours have similar numbers of tokens, for little padding."""
    if of_rows is None or of_columns is None:
        return torch.arange(len(rows))
    return ((of_columns.cpu()[columns] // 8) * 2**20 + of_rows.cpu()[rows]).argsort(stable=True)


def _vectors(embedding: Embedding) -> Embedding:
    return Embedding(embedding.vector, tower=embedding.tower)
