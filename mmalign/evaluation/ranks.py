"""Where the right answers stand: ranks by counting, a block of queries at a time, never the whole score matrix."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.types import Embedding

Score = Callable[[Embedding, Embedding], Tensor]

# Two scores of one query that float32 cannot tell apart are a tie: the same sentence embedded in two batches
# differs in the last bits, and must not win or lose by them.
TIE = 4 * torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Ranks:
    """Where each query's right answers stand; rank 0 = first.

    The list is the worst that the scores allow: among equal scores, wrong answers come first.

    Args:
        queries: Which queries these are; those without a right answer in the gallery are left out, `(n,)`.
        best: Rank of the first right answer, `(n,)`.
        right: How many right answers the gallery holds, `(n,)`.
        found: How many of them are among the first k, `(n, len(ks))`.
        ks: The list lengths.
        gallery: Size of the gallery.
    """

    queries: Tensor
    best: Tensor
    right: Tensor
    found: Tensor
    ks: tuple[int, ...]
    gallery: int


def ranks(
    queries: Embedding,
    gallery: Embedding,
    right: Any,
    *,
    score: Score,
    ks: Sequence[int] = (1, 5, 10),
    pairs: int = 2**23,
    device: torch.device | str = "cpu",
) -> Ranks:
    """Rank the right answers of every query.

    Args:
        queries: `(n, …)`.
        gallery: `(m, …)`.
        right: SciPy CSR matrix `(n, m)`, or what gives its rows by `right[start:stop]`: nonzero = a right answer.
        score: `(queries, gallery) -> (queries, gallery)` similarity, higher = more alike.
        ks: List lengths at which right answers are counted.
        pairs: Scores held at once: bounds the memory.
        device: Where scores are computed.

    Raises:
        UserError: a score is NaN or infinite, or no query has a right answer.

    Example:
        >>> from scipy.sparse import csr_array
        >>> e = Embedding(torch.eye(3))
        >>> found = ranks(e, e, csr_array([[1, 0, 0], [0, 1, 0], [1, 0, 0]]), score=lambda a, b: a.vector @ b.vector.T)
        >>> found.best  # the third ties with a wrong answer
        tensor([0, 0, 2])
    """
    parts = []
    for start, block in score_blocks(queries, gallery, score=score, pairs=pairs, device=device):
        if not bool(torch.isfinite(block.amin() + block.amax())):
            raise UserError(
                f"{queries.modality or 'query'} -> {gallery.modality or 'gallery'}: expected finite scores, got NaN or "
                f"infinity within queries {start} to {start + len(block) - 1}; the training may have diverged"
            )
        rows = right[start : start + len(block)]
        counts = torch.from_numpy(rows.indptr).long().diff().to(block.device)
        columns = torch.from_numpy(rows.indices).long().to(block.device)
        parts.append([part.cpu() for part in _rank_block(block, counts, columns, start, tuple(ks))])
    places, best, number, found = (torch.cat(column) for column in zip(*parts, strict=True)) if parts else _nothing(ks)
    if not len(places):
        raise UserError("no query has a right answer in the gallery: the split holds no record with both sides")
    return Ranks(places, best, number, found, tuple(ks), len(gallery))


def score_blocks(
    queries: Embedding,
    gallery: Embedding,
    *,
    score: Score,
    pairs: int = 2**23,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, Tensor]]:
    """The score matrix in blocks of complete rows: `(first query, scores (rows, len(gallery)))`.

    One call of `score` sees at most `pairs` pairs, a block at most that or one row.
    """
    step, width = max(1, pairs // max(1, len(gallery))), max(1, min(pairs, len(gallery)))
    tiles = [slice(start, start + width) for start in range(0, len(gallery), width)]
    kept = [gallery[tile].to(device) for tile in tiles] if len(tiles) == 1 else []
    for start in range(0, len(queries) if tiles else 0, step):
        rows = queries[start : start + step].to(device)
        with torch.no_grad():
            block = [score(rows, tile).float() for tile in kept or (gallery[tile].to(device) for tile in tiles)]
        yield start, block[0] if len(block) == 1 else torch.cat(block, dim=1)


def _rank_block(
    block: Tensor, counts: Tensor, columns: Tensor, start: int, ks: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    margin = TIE * torch.maximum(block.amax(dim=1), -block.amin(dim=1))[:, None]
    rows = torch.repeat_interleave(torch.arange(len(block), device=block.device), counts)
    ordinal = torch.arange(len(rows), device=block.device) - (counts.cumsum(0) - counts)[rows]
    # (rows, most): the scores of each query's right answers; -inf where it has fewer.
    hits = block.new_full((len(block), max(1, int(counts.max()))), -torch.inf)
    hits[rows, ordinal] = block[rows, columns]
    bar = hits.amax(dim=1, keepdim=True) - margin
    best = _count(block >= bar) - _count(hits >= bar)
    if hits.shape[1] > 1:
        found = _found(block.index_put((rows, columns), block.new_tensor(-torch.inf)), hits, margin, counts, ks)
    else:
        found = torch.stack([best < k for k in ks], dim=1).long() if ks else best.new_zeros(len(best), 0)
    keep = counts > 0
    places = start + torch.arange(len(block), device=block.device)
    return places[keep], best[keep], counts[keep], found[keep]


def _found(wrong: Tensor, hits: Tensor, margin: Tensor, counts: Tensor, ks: tuple[int, ...]) -> Tensor:
    # The i-th right answer is among the first k when fewer than k - i wrong ones reach its score, that is when the
    # (k - i)-th best wrong answer is below it: the heads of the two lists are enough.
    longest = max(ks, default=1)
    bars = hits.topk(min(hits.shape[1], longest), dim=1).values - margin
    wrong = wrong.topk(min(longest, wrong.shape[1]), dim=1).values
    wrong = torch.nn.functional.pad(wrong, (0, longest - wrong.shape[1]), value=-torch.inf)
    real = torch.arange(bars.shape[1], device=bars.device) < counts[:, None]
    found = wrong.new_zeros(len(wrong), len(ks), dtype=torch.long)
    for place, k in enumerate(ks):
        head = min(k, bars.shape[1])
        below = wrong[:, k - head : k].flip(1) < bars[:, :head]
        found[:, place] = (below & real[:, :head]).sum(dim=1)
    return found


def _count(mask: Tensor) -> Tensor:
    # Summing eight booleans at a time as bytes of one integer is several times faster than summing booleans;
    # a byte holds up to 255, so words are added in runs of that length.
    rows, length = mask.shape
    words = torch.nn.functional.pad(mask, (0, -length % 2040)).view(torch.int64).view(rows, -1, 255).sum(dim=2)
    return words.view(torch.uint8).sum(dim=1, dtype=torch.int64)


def _nothing(ks: Sequence[int]) -> tuple[Tensor, ...]:
    empty = torch.zeros(0, dtype=torch.long)
    return empty, empty, empty, torch.zeros(0, len(ks), dtype=torch.long)
