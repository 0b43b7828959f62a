"""Blocks of scores: some queries against the whole gallery, without the full score matrix; tie margins."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.embedding.jagged import tiles_of
from mmalign.errors import UserError
from mmalign.safe_io.progress import track
from mmalign.types import Embedding

Score = Callable[[Embedding, Embedding], Tensor]


# Two scores of one query that are equal within float32 rounding are a tie: the same sentence embedded in two batches
# differs in the last bits, which must not decide the ranking.
TIE = 4 * torch.finfo(torch.float32).eps


class Block(NamedTuple):
    """The scores of some queries against the whole gallery.

    Args:
        start: Index of the first query.
        scores: `(rows, gallery)`.
        margin: Maximum difference of two scores of a query that count as equal, `(rows, 1)` or `(rows, gallery)`.
    """

    start: int
    scores: Tensor
    margin: Tensor


def inner_product(a: Embedding, b: Embedding) -> Tensor:
    """Dot product of every pair of vectors, `(len(a), len(b))`: the cosine of unit vectors."""
    return a.vector @ b.vector.T


def full_blocks(
    queries: Embedding, gallery: Embedding, *, score: Score, pairs: int = 2**23, device: torch.device | str = "cpu"
) -> Iterator[Block]:
    """`score_blocks` with tie margins.

    Raises:
        UserError: a score is NaN or infinite.
    """
    for start, scores in score_blocks(queries, gallery, score=score, pairs=pairs, device=device):
        demand_finite(scores, queries, gallery, start)
        yield Block(start, scores, margin_of(scores))


def demand_finite(scores: Tensor, queries: Embedding, gallery: Embedding, start: int) -> None:
    """Raise a `UserError` if a score is NaN or infinite: such scores are never ranked."""
    if scores.numel() and not bool(torch.isfinite(scores.amin() + scores.amax())):
        raise UserError(
            f"{queries.tower or 'query'} -> {gallery.tower or 'gallery'}: expected finite scores, got NaN or "
            f"infinity within queries {start} to {start + len(scores) - 1}; the training may have diverged"
        )


def margin_of(scores: Tensor) -> Tensor:
    """Maximum difference of two scores of a row that count as equal, `(rows, 1)`: a few units in the last place."""
    return TIE * torch.maximum(scores.amax(dim=1), -scores.amin(dim=1))[:, None]


def score_blocks(
    queries: Embedding,
    gallery: Embedding,
    *,
    score: Score,
    pairs: int = 2**23,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, Tensor]]:
    """The score matrix in blocks of complete rows: `(first query, scores (rows, len(gallery)))`.

    One call of `score` computes at most `pairs` pairs, and a block has at most that many or one row. For a gallery with
    tokens, a few hundred samples of similar length are padded and scored at a time.
    """
    step, tiles = max(1, pairs // max(1, len(gallery))), tiles_of(gallery, pairs)
    on_device = [gallery[tile].to(device) for tile in tiles] if len(tiles) == 1 else []
    for start in track(range(0, len(queries) if tiles else 0, step), "scoring"):
        rows = queries[start : start + step].to(device)
        # Do not yield under no_grad: a loop that is left early would leave gradients disabled.
        with torch.no_grad():
            if on_device:
                block = score(rows, on_device[0]).float()
            else:
                block = torch.empty(len(rows), len(gallery), device=device)
                for tile in tiles:
                    block[:, tile] = score(rows, gallery[tile].to(device)).float()
        yield start, block


def first_answers(
    queries: Embedding, gallery: Embedding, *, score: Score, k: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The best `k` of the gallery for each query: scores `(n, k)`, highest first, and their indices."""
    tops = [
        block.topk(min(k, len(gallery)), dim=1)
        for _, block in score_blocks(queries, gallery, score=score, device=device)
    ]
    return torch.cat([top.values for top in tops]).cpu(), torch.cat([top.indices for top in tops]).cpu()
