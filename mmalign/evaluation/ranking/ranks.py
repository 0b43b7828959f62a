"""Ranks of relevant items by counting, one block of queries at a time, without the full score matrix."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.embedding.scoring import Block, Score, full_blocks
from mmalign.errors import UserError
from mmalign.registry import nearest
from mmalign.types import Embedding

TIES = {
    "worst": "ties are resolved pessimistically: among equal scores, irrelevant items come first",
    "middle": "ties averaged: equal scores have their mean rank, and hits count by the fraction of orders",
}


@dataclass(frozen=True)
class Ranks:
    """Ranks of each query's relevant items; rank 0 = first.

    Under `worst`, irrelevant items come first among equal scores. Under `middle`, ranks and counts are means over all
    orders of equal scores, so they need not be whole.

    Args:
        queries: Indices of the queries with a relevant item in the gallery, `(n,)`.
        best: Rank of the first relevant item, `(n,)`.
        relevant: Number of relevant items in the gallery, `(n,)`.
        retrieved: Number of relevant items among the first k, `(n, len(ks))`.
        ks: Values of k.
        gallery: Size of the gallery.
        hits: Probability that one of them is among the first k, `(n, len(ks))`; None: 1 where `best` is below k.
    """

    queries: Tensor
    best: Tensor
    relevant: Tensor
    retrieved: Tensor
    ks: tuple[int, ...]
    gallery: int
    hits: Tensor | None = None

    def hit(self, column: int) -> Tensor:
        """Whether a relevant item of each query is among the first `ks[column]`, `(n,)` in [0, 1]."""
        return (self.best < self.ks[column]).double() if self.hits is None else self.hits[:, column]


def ranks(
    queries: Embedding,
    gallery: Embedding,
    relevant: Any,
    *,
    score: Score,
    ks: Sequence[int] = (1, 5, 10),
    ties: str = "worst",
    pairs: int = 2**23,
    device: torch.device | str = "cpu",
) -> Ranks:
    """Rank the relevant items of every query.

    Args:
        queries: `(n, …)`.
        gallery: `(m, …)`.
        relevant: SciPy CSR matrix `(n, m)`, nonzero = relevant; or an object that returns its rows by
            `relevant[start:stop]`.
        score: `(queries, gallery) -> (queries, gallery)` similarity, higher = more similar.
        ks: Values of k at which relevant items are counted.
        ties: worst or middle.
        pairs: Maximum number of scores in memory.
        device: Device of the scores.

    Raises:
        UserError: a score is NaN or infinite, or no query has a relevant item.

    Example:
        >>> from scipy.sparse import csr_array
        >>> e = Embedding(torch.eye(3))
        >>> one = ranks(e, e, csr_array([[1, 0, 0], [0, 1, 0], [1, 0, 0]]), score=lambda a, b: a.vector @ b.vector.T)
        >>> one.best  # the first row of the third query ties with an irrelevant item
        tensor([0, 0, 2])
    """
    blocks = full_blocks(queries, gallery, score=score, pairs=pairs, device=device)
    return rank_blocks(blocks, relevant, gallery=len(gallery), ks=ks, ties=ties)


def rank_blocks(
    blocks: Iterable[Block],
    relevant: Any,
    *,
    gallery: int,
    ks: Sequence[int] = (1, 5, 10),
    ties: str = "worst",
    observe: Callable[[Tensor, Tensor, Tensor, Tensor], None] | None = None,
) -> Ranks:
    """As `ranks`, from blocks of scores.

    Args:
        blocks: Scores of consecutive queries with the gallery.
        relevant: As in `ranks`.
        gallery: Size of the gallery.
        ks: Values of k at which relevant items are counted.
        ties: worst or middle.
        observe: Called with each block's scores, counts and indices of relevant items, and best ranks, see
            `FirstItems.add`.

    Raises:
        UserError: an unknown rule for ties, or no query has a relevant item.
    """
    if ties not in TIES:
        raise UserError(f"--ties: no rule called {ties!r}{nearest(ties, TIES)}")
    table = _Table()
    for start, scores, margin in blocks:
        rows = relevant[start : start + len(scores)]
        counts = torch.from_numpy(rows.indptr).long().diff().to(scores.device)
        columns = torch.from_numpy(rows.indices).long().to(scores.device)
        keep = counts > 0
        queries = start + torch.arange(len(scores), device=scores.device)
        ranked = _rank_block(scores, margin, counts, columns, tuple(ks), middle=ties == "middle")
        if observe is not None:
            observe(scores, counts, columns, ranked[0])
        table.append([part[keep].cpu() for part in (queries, counts, *ranked)])
    if not table.rows:
        raise UserError("no query has a relevant item in the gallery: the split has no record with both towers")
    queries, number, best, retrieved, hits = table.columns()
    return Ranks(queries, best, number, retrieved, tuple(ks), gallery, hits)


class _Table:
    """Columns that grow by blocks of rows, in a few large tensors.

    Small tensors that outlive their block would lie between the blocks of scores on the heap, which then grows by
    gigabytes: a block of 2**23 scores lies just below the size that glibc maps on its own.
    """

    def __init__(self) -> None:
        self.rows, self._columns = 0, list[Tensor]()

    def append(self, block: Sequence[Tensor]) -> None:
        stop = self.rows + len(block[0])
        if not self._columns or stop > len(self._columns[0]):
            capacity = max(4096, 2 * stop)
            wider = [column.new_empty(capacity, *column.shape[1:]) for column in block]
            for new, old in zip(wider, self._columns, strict=False):
                new[: self.rows] = old[: self.rows]
            self._columns = wider
        for column, part in zip(self._columns, block, strict=True):
            column[self.rows : stop] = part
        self.rows = stop

    def columns(self) -> list[Tensor]:
        return [column[: self.rows].clone() for column in self._columns]


def _rank_block(
    block: Tensor, margin: Tensor, counts: Tensor, columns: Tensor, ks: tuple[int, ...], *, middle: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query: rank of its first relevant item, relevant items in the first k, probability of at least one."""
    rows = torch.repeat_interleave(torch.arange(len(block), device=block.device), counts)
    ordinal = torch.arange(len(rows), device=block.device) - (counts.cumsum(0) - counts)[rows]
    # (rows, most): the scores of each query's relevant items; -inf where it has fewer.
    hits = block.new_full((len(block), max(1, int(counts.max()))), -torch.inf)
    slack = torch.zeros_like(hits)
    hits[rows, ordinal] = block[rows, columns]
    slack[rows, ordinal] = margin.expand_as(block)[rows, columns]
    low = hits - slack
    bar = low.amax(dim=1, keepdim=True)
    reach, own = _count(block >= bar), _count(hits >= bar)
    lengths = torch.tensor(ks, dtype=torch.float64, device=block.device)
    if middle:
        above = _count(block > (hits + slack).amax(dim=1, keepdim=True))
        irrelevant = reach - above - own
        sure = _surely(lengths - above[:, None], irrelevant[:, None].double(), own[:, None].double())
        shared = sure if hits.shape[1] == 1 else _shared(block, hits, slack, counts, lengths)
        return above + irrelevant.double() / (own + 1), shared, sure
    best = reach - own
    sure = best[:, None] < lengths
    if hits.shape[1] == 1:
        return best, sure.long(), sure.double()
    masked = block.index_put((rows, columns), block.new_tensor(-torch.inf))
    return best, _retrieved(masked, low, counts, ks), sure.double()


def _surely(slots: Tensor, irrelevant: Tensor, relevant: Tensor) -> Tensor:
    # Equal scores in any order, i irrelevant and r relevant items: one of the first j is relevant with probability
    # 1 - C(i, j) / C(i + r, j).
    j = slots.clamp(min=0).minimum(irrelevant)
    none = (irrelevant + 1).lgamma() - (irrelevant - j + 1).lgamma() + (irrelevant + relevant - j + 1).lgamma()
    none = (none - (irrelevant + relevant + 1).lgamma()).exp()
    return torch.where(slots > irrelevant, 1.0, torch.where(slots <= 0, 0.0, 1 - none))


def _shared(block: Tensor, hits: Tensor, slack: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    # A relevant item with `level` items of equal score and `above` better ones is among the first k in (k - above)
    # of `level` orders.
    ordered = block.contiguous().sort(dim=1).values  # a swapped pair's block is a transpose
    above = (block.shape[1] - torch.searchsorted(ordered, hits + slack, right=True)).double()
    level = block.shape[1] - torch.searchsorted(ordered, hits - slack) - above
    real = torch.arange(hits.shape[1], device=hits.device) < counts[:, None]
    shares = [torch.where(real, ((k - above) / level).clamp(0, 1), 0.0) for k in lengths.tolist()]
    return torch.stack([share.sum(dim=1) for share in shares], dim=1) if shares else above.new_zeros(len(block), 0)


def _retrieved(irrelevant: Tensor, bars: Tensor, counts: Tensor, ks: tuple[int, ...]) -> Tensor:
    # The i-th relevant item is among the first k when fewer than k - i irrelevant ones reach its score, that is when
    # the (k - i)-th best irrelevant one is below it: the heads of the two lists are enough.
    longest = max(ks, default=1)
    bars = bars.topk(min(bars.shape[1], longest), dim=1).values
    irrelevant = irrelevant.topk(min(longest, irrelevant.shape[1]), dim=1).values
    irrelevant = torch.nn.functional.pad(irrelevant, (0, longest - irrelevant.shape[1]), value=-torch.inf)
    real = torch.arange(bars.shape[1], device=bars.device) < counts[:, None]
    within = irrelevant.new_zeros(len(irrelevant), len(ks), dtype=torch.long)
    for column, k in enumerate(ks):
        head = min(k, bars.shape[1])
        below = irrelevant[:, k - head : k].flip(1) < bars[:, :head]
        within[:, column] = (below & real[:, :head]).sum(dim=1)
    return within


def _count(mask: Tensor) -> Tensor:
    """Number of True in each row, `(rows,)`."""
    if mask.device.type == "cpu":  # ten times as fast as torch there
        return torch.from_numpy(np.count_nonzero(mask.numpy(), axis=1).astype(np.int64))
    return mask.sum(dim=1)
