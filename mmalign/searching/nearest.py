"""Search: the nearest rows of an embedding table, exact, by FAISS where it is installed and applicable."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign import bundle
from mmalign.embedding.scoring import TIE, first_answers
from mmalign.embedding.table import EmbeddingTable
from mmalign.embedding.truncated import truncated_vectors
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.registry import missing_extra
from mmalign.searching.result import Hit, SearchResult
from mmalign.selection import model_of, require_tower
from mmalign.types import Embedding


def search(
    model: Aligner | str | Path,
    queries: Sequence[Any],
    *,
    tower: str,
    index: EmbeddingTable | str | Path,
    k: int = 10,
    engine: str = "auto",
    device: str = "auto",
) -> SearchResult:
    """The `k` nearest rows of a table for each query.

    The queries' tower may be any that shares a space with the table's, also the same one (molecule to molecule): towers
    that were never paired, and a tower and itself, are compared by the cosine of their vectors.

    A table has vectors only. If the model's score reads more (tokens, variances), vectors are compared by their cosine:
    the means of Gaussians, the normalised means of tokens. To a table of truncated vectors (`mmalign embed --dims`),
    queries are compared by as many of their numbers.

    Args:
        model: The model of the table, or the path of its bundle or run.
        queries: Samples of the queries' tower.
        tower: The queries' tower.
        index: The embedding table, or the path of its file.
        k: Results per query; fewer if the table is shorter.
        engine: `faiss` or `torch`, with equal results; `auto` = FAISS if it is installed and the model's score is the
            inner product of vectors.
        device: Device to load a bundle on, see `mmalign.load`; a model stays on its own.

    Raises:
        UserError: k is not positive, the table was computed by another model, or FAISS is requested and absent or
            unsuitable.
    """
    if k < 1:
        raise UserError(f"k: expected at least 1, got {k}")
    if engine not in ("auto", "faiss", "torch"):
        raise UserError(f"engine: expected auto, faiss or torch, got {engine!r}")
    loaded = model_of(model, device)
    require_tower(loaded, tower)
    table = index if isinstance(index, EmbeddingTable) else EmbeddingTable.read(index)
    if loaded.path:
        table.require_bundle(bundle.fingerprint(loaded.path))
    gallery = table.embedding
    size = gallery.vector.shape[1]
    if loaded.dim not in (size, table.full_size):
        raise UserError(f"expected vectors of {loaded.dim} numbers, as of this model, got {size}")
    with truncated_vectors(loaded, size if size < loaded.dim else None, (gallery.tower,)):
        embedded = loaded.encode(tower, queries)
    inner = engine != "torch" and _is_inner_product(loaded, embedded, gallery)
    if engine == "faiss" and not inner:
        raise UserError("engine 'faiss' computes inner products, and this model has another score; use engine 'torch'")
    if inner and (engine == "faiss" or _has_faiss()):
        scores, indices = _faiss(embedded.vector, gallery.vector, k)
    else:
        score = loaded.similarity if loaded.scores_vectors_only(tower, gallery.tower) else _cosines
        scores, indices = first_answers(embedded, gallery, score=score, k=k, device=loaded.device)
    items: Sequence[float | None] = table.uncertainties or [None] * len(table)
    hits = [
        [Hit(table.ids[at], score, table.values[at], items[at]) for score, at in zip(row_scores, row, strict=True)]
        for row_scores, row in zip(scores.tolist(), indices.tolist(), strict=True)
    ]
    known = None if embedded.log_variance is None else embedded.uncertainty.tolist()
    return SearchResult(loaded, queries, hits, tower, gallery.tower, known)


def _is_inner_product(model: Aligner, queries: Embedding, gallery: Embedding) -> bool:
    if not model.scores_vectors_only(queries.tower, gallery.tower):
        return True  # only vectors
    some, others = queries[:4], gallery[:16]
    with torch.no_grad():
        scores = model.similarity(some.to(model.device), others.to(model.device)).cpu()
    return torch.allclose(scores, some.vector @ others.vector.T, rtol=0, atol=16 * TIE)


def _cosines(a: Embedding, b: Embedding) -> Tensor:
    return a.vector @ b.vector.T


def _has_faiss() -> bool:
    import importlib.util

    return importlib.util.find_spec("faiss") is not None


def _faiss(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    try:
        import faiss
    except ImportError as error:
        raise missing_extra("faiss", "search") from error
    flat = faiss.IndexFlatIP(gallery.shape[1])
    flat.add(gallery.contiguous().numpy())
    scores, indices = flat.search(queries.contiguous().numpy(), min(k, len(gallery)))
    return torch.from_numpy(scores), torch.from_numpy(indices)
