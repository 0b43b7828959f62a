"""Exact search: the best rows of stored vectors for each query, a tile at a time."""

import torch
from torch import Tensor

from mmalign.embedding.scoring import Score, inner_product
from mmalign.embedding.stored_vectors import StoredVectors
from mmalign.safe_io.progress import track
from mmalign.types import Embedding

_PAIRS = 2**23
"""Scores that are held at a time: 32 MB."""

_QUERIES = 1024
_AGAIN = 64

CANDIDATES = 10
"""Candidates for each result, where other vectors score again."""


def best_rows(
    queries: Embedding,
    vectors: StoredVectors,
    k: int,
    *,
    score: Score,
    tower: str = "",
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The `k` rows with the highest score for each query.

    Memory beyond the vectors is bounded: tiles of rows are decoded and scored against up to 1,024 queries, and rows
    below a query's k-th best score so far are dropped at once.

    Args:
        queries: Embeddings of the queries.
        vectors: The rows.
        k: Rows per query; all of them if there are fewer.
        score: Similarity of queries `(n,)` and rows `(m,)`, `(n, m)`.
        tower: The rows' tower.
        device: Device on which tiles are scored.

    Returns:
        Scores `(n, k)`, highest first, and indices of the rows.

    Example:
        >>> rows = StoredVectors.of(torch.eye(3))
        >>> best_rows(Embedding(torch.tensor([[0.1, 0.9, 0.2]])), rows, 2, score=inner_product)[1].tolist()
        [[1, 2]]
    """
    k = min(k, len(vectors))
    parts = [
        _best(queries[start : start + _QUERIES].to(device), vectors, k, score, tower, device)
        for start in range(0, len(queries), _QUERIES)
    ]
    if not parts:
        return torch.empty(0, k), torch.empty(0, k, dtype=torch.long)
    return torch.cat([scores for scores, _ in parts]), torch.cat([rows for _, rows in parts])


def score_again(
    queries: Embedding, vectors: StoredVectors, rows: Tensor, k: int, *, score: Score, tower: str = ""
) -> tuple[Tensor, Tensor]:
    """The best `k` of the candidates of each query, by their vectors; the arguments are those of `best_rows`.

    Args:
        queries: Embeddings of the queries.
        vectors: The vectors to score with.
        rows: Candidates of each query, `(n, candidates)`; -1 = none.
        k: Rows per query.
        score: As of `best_rows`.
        tower: The rows' tower.
    """
    k = min(k, rows.shape[1])
    best, found = [torch.empty(0, k)], [torch.empty(0, k, dtype=torch.long)]
    for start in range(0, len(rows), _AGAIN):
        # Sorted, and a stable sort below: equal scores stay in the order of the rows.
        candidates = rows[start : start + _AGAIN].sort(dim=1).values
        asked = queries[start : start + _AGAIN]
        decoded = vectors.decode(candidates.clamp_min(0).flatten()).view(*candidates.shape, vectors.dim)
        with torch.no_grad():
            if score is inner_product:
                scores = torch.bmm(decoded, asked.vector.float()[:, :, None])[:, :, 0]
            else:
                each = [score(asked[at : at + 1], Embedding(one, tower=tower)) for at, one in enumerate(decoded)]
                scores = torch.cat(each).float()
        scores = scores.masked_fill(candidates < 0, -torch.inf)
        top = scores.sort(dim=1, descending=True, stable=True)
        best.append(top.values[:, :k])
        found.append(candidates.gather(1, top.indices[:, :k]))
    return torch.cat(best), torch.cat(found)


def _best(
    queries: Embedding, vectors: StoredVectors, k: int, score: Score, tower: str, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    tile = max(k, _PAIRS // _QUERIES if len(queries) > 1 else 2**15, 1)
    best = torch.empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long)
    for start in track(range(0, len(vectors), tile), "searching"):
        part = Embedding(vectors.decode(slice(start, start + tile)), tower=tower).to(device)
        with torch.no_grad():
            scores = score(queries, part).float().cpu()
        if best.shape[1] < k:
            better = torch.arange(len(queries))
        else:
            better = (scores.amax(dim=1) > best[:, -1]).nonzero()[:, 0]
            if not len(better):
                continue
            scores = scores[better]
        top = scores.topk(min(k, scores.shape[1]), dim=1)
        # Earlier rows first, and a stable sort: equal scores stay in the order of the rows.
        joined = torch.cat([best[better], top.values], dim=1)
        joined_rows = torch.cat([rows[better], top.indices + start], dim=1)
        order = joined.sort(dim=1, descending=True, stable=True).indices[:, :k]
        if best.shape[1] < k:
            best, rows = joined.gather(1, order), joined_rows.gather(1, order)
        else:
            best[better], rows[better] = joined.gather(1, order), joined_rows.gather(1, order)
    return best, rows
