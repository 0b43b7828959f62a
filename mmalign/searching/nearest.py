"""Search: the nearest rows of an embedding table, exact, or by an index that is kept beside the table."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.bundles import bundle
from mmalign.embedding.scoring import TIE, Score, inner_product
from mmalign.embedding.table import EmbeddingTable
from mmalign.embedding.truncated import truncated_vectors
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.searching.approximate import KINDS, candidates, load_faiss
from mmalign.searching.exact import CANDIDATES, best_rows, score_again
from mmalign.searching.result import Hit, SearchResult
from mmalign.selection import model_of, require_tower
from mmalign.types import Embedding

ENGINES = ("auto", "torch", "faiss", *KINDS)


def search(
    model: Aligner | str | Path,
    queries: Sequence[Any],
    *,
    tower: str,
    index: EmbeddingTable | str | Path,
    k: int = 10,
    engine: str = "auto",
    by_id: bool = False,
    rescore: EmbeddingTable | str | Path | None = None,
    device: str = "auto",
) -> SearchResult:
    """The `k` nearest rows of a table for each query.

    The queries' tower may be any that shares a space with the table's, also the same one (molecule to molecule): towers
    that were never paired, and a tower and itself, are compared by the cosine of their vectors.

    A table has vectors only. If the model's score reads more (tokens, variances), vectors are compared by their cosine:
    the means of Gaussians, the normalised means of tokens. To a table of truncated vectors (`mmalign embed --dims`),
    queries are compared by as many of their numbers; to a table of lower precision, by its decoded vectors.

    Args:
        model: The model of the table, or the path of its bundle or run.
        queries: Samples of the queries' tower, or (`by_id`) ids of rows of the table.
        tower: The queries' tower.
        index: The embedding table, or the path of its file.
        k: Results per query; fewer if the table is shorter.
        engine: `auto`, `torch`: exact. `faiss`: exact, by FAISS, if the model's score is the inner product of vectors.
            `hnsw`, `ivfpq`: by the index that `mmalign index` has written beside the table; scores are exact, and rows
            can be missed.
        by_id: The queries are ids of the table: rows that resemble these rows, without them.
        rescore: A table of the same rows at higher precision, or its path: the first 10 k rows are scored again by it.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Raises:
        UserError: k is not positive, the table was computed by another model, an engine is absent or unsuitable, an id
            is not in the table, or the table to score with has other rows.
    """
    if k < 1:
        raise UserError(f"k: expected at least 1, got {k}")
    if engine not in ENGINES:
        raise UserError(f"engine: expected {', '.join(ENGINES[:-1])} or {ENGINES[-1]}, got {engine!r}")
    loaded = model_of(model, device)
    require_tower(loaded, tower)
    table = _table(loaded, index)
    finer = None if rescore is None else _finer(loaded, table, rescore)
    size = table.vectors.dim
    own: list[list[int]] = [[] for _ in queries]
    if by_id:
        tower, own = table.tower, _rows_of(table, queries)
        first = torch.tensor([rows[0] for rows in own], dtype=torch.long)
        embedded = Embedding((finer or table).vectors.decode(first), tower=tower)
    else:
        with truncated_vectors(loaded, size if size < loaded.dim else None, (table.tower,)):
            embedded = loaded.encode(tower, queries)
    score = loaded.similarity if loaded.scores_vectors_only(tower, table.tower) else inner_product
    wanted = k + max(map(len, own), default=0)
    if engine in KINDS and not isinstance(index, str | Path):
        raise UserError(f"engine {engine!r} reads the index beside a table's file: give the path of the table")
    scores, rows = _nearest(loaded, embedded, table, score, wanted if finer is None else CANDIDATES * wanted, engine,
                            None if isinstance(index, EmbeddingTable) else index)  # fmt: skip
    if finer is not None:
        scores, rows = score_again(embedded, finer.vectors, rows, wanted, score=score, tower=table.tower)
    hits = []
    for row_scores, row, left_out in zip(scores.tolist(), rows.tolist(), own, strict=True):
        found = [(score, at) for score, at in zip(row_scores, row, strict=True) if at >= 0 and at not in left_out]
        hits.append([_hit(table, score, at) for score, at in found[:k]])
    known = None if embedded.log_variance is None else embedded.uncertainty.tolist()
    shown = [table.values[rows[0]] or query for query, rows in zip(queries, own, strict=True)] if by_id else queries
    return SearchResult(loaded, shown, hits, tower, table.tower, known)


def _table(model: Aligner, index: EmbeddingTable | str | Path) -> EmbeddingTable:
    table = index if isinstance(index, EmbeddingTable) else EmbeddingTable.read(index)
    if model.path:
        table.require_bundle(bundle.fingerprint(model.path))
    size = table.vectors.dim
    if model.dim not in (size, table.full_size):
        raise UserError(f"expected vectors of {model.dim} numbers, as of this model, got {size}")
    return table


def _finer(model: Aligner, table: EmbeddingTable, rescore: EmbeddingTable | str | Path) -> EmbeddingTable:
    finer = _table(model, rescore)
    if (finer.vectors.dim, finer.tower) != (table.vectors.dim, table.tower) or list(finer.ids) != list(table.ids):
        raise UserError("rescore: expected a table of the same rows, tower and size of vectors as the searched one")
    return finer


def _rows_of(table: EmbeddingTable, ids: Sequence[str]) -> list[list[int]]:
    """The rows of each id: one for each alternative of the record."""
    rows: dict[str, list[int]] = {str(one): [] for one in ids}
    for at, one in enumerate(table.ids):
        if one in rows:
            rows[one].append(at)
    for one, found in rows.items():
        if not found:
            near = get_close_matches(one, table.ids[: 10**4], n=1)
            raise UserError(
                f"no row of the table has the id {one!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return [rows[str(one)] for one in ids]


def _nearest(
    model: Aligner,
    queries: Embedding,
    table: EmbeddingTable,
    score: Score,
    k: int,
    engine: str,
    path: str | Path | None,
) -> tuple[Tensor, Tensor]:
    inner = engine not in ("auto", "torch") and _is_inner_product(model, queries, table)
    if engine in ("faiss", *KINDS) and not inner:
        raise UserError(
            f"engine {engine!r} computes inner products, and this model has another score; use engine 'torch'"
        )
    if engine in KINDS and path is not None:
        rows = candidates(table, path, engine, queries.vector, k)
        return score_again(queries, table.vectors, rows, k, score=inner_product)
    if engine == "faiss":
        return _faiss(queries.vector, table.embedding.vector, k)
    return best_rows(queries, table.vectors, k, score=score, tower=table.tower, device=model.device)


def _is_inner_product(model: Aligner, queries: Embedding, table: EmbeddingTable) -> bool:
    if not model.scores_vectors_only(queries.tower, table.tower):
        return True  # only vectors
    some, others = queries[:4], Embedding(table.vectors.decode(slice(0, 16)), tower=table.tower)
    with torch.no_grad():
        scores = model.similarity(some.to(model.device), others.to(model.device)).cpu()
    return torch.allclose(scores, some.vector @ others.vector.T, rtol=0, atol=16 * TIE)


def _hit(table: EmbeddingTable, score: float, at: int) -> Hit:
    return Hit(table.ids[at], score, table.values[at], table.uncertainties[at] if table.uncertainties else None)


def _faiss(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    flat = load_faiss().IndexFlatIP(gallery.shape[1])
    flat.add(gallery.contiguous().numpy())
    scores, indices = flat.search(queries.contiguous().numpy(), min(k, len(gallery)))
    return torch.from_numpy(scores), torch.from_numpy(indices)
