"""Search: the nearest rows of an embedding table, exact, by FAISS where it is installed and applicable."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmalign.embedding.scoring import TIE, first_answers
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.registry import missing_extra
from mmalign.searching.table import EmbeddingTable
from mmalign.types import Embedding


class Hit(NamedTuple):
    """One search result.

    Args:
        id: Id of the record.
        score: Similarity with the query, higher = more similar.
        value: The raw string of the item, a sentence or a file name; None if it was not a string.
    """

    id: str
    score: float
    value: str | None


def search(
    model: Aligner,
    queries: Any,
    *,
    tower: str,
    index: EmbeddingTable,
    k: int = 10,
    engine: str = "auto",
) -> list[list[Hit]]:
    """The best `k` rows of a table for each query.

    The queries' tower may be any that shares a space with the table's, also the same one (molecule to molecule): towers
    that were never paired, and a tower and itself, are compared by the cosine of their vectors.

    A table has vectors only. If the model's score reads more (tokens, variances), vectors are compared by their cosine:
    the means of Gaussians, the normalised means of tokens.

    Args:
        model: The model of the table.
        queries: Samples of the queries' tower.
        tower: The queries' tower.
        index: The embedding table, see `read_parquet`.
        k: Results per query; fewer if the table is shorter.
        engine: `faiss` or `torch`, with equal results; `auto` = FAISS if it is installed and the model's score is the
            inner product of vectors.

    Raises:
        UserError: k is not positive, the table's vectors are not of this model's space, or FAISS is asked for and
            absent or unsuitable.
    """
    if k < 1:
        raise UserError(f"k: expected at least 1, got {k}")
    if engine not in ("auto", "faiss", "torch"):
        raise UserError(f"engine: expected auto, faiss or torch, got {engine!r}")
    gallery = index.embedding
    if gallery.vector.shape[1] != model.dim:
        raise UserError(
            f"expected embeddings of {model.dim} numbers, as this model makes, got {gallery.vector.shape[1]}"
        )
    embedded = model.encode(tower, queries)
    inner = engine != "torch" and _is_inner_product(model, embedded, gallery)
    if engine == "faiss" and not inner:
        raise UserError("engine 'faiss' finds inner products, and this model scores otherwise; use engine 'torch'")
    if inner and (engine == "faiss" or _has_faiss()):
        scores, indices = _faiss(embedded.vector, gallery.vector, k)
    else:
        score = model.similarity if model.scores_vectors_only(tower, gallery.tower) else _cosines
        scores, indices = first_answers(embedded, gallery, score=score, k=k, device=model.device)
    return [
        [Hit(index.ids[item], score, index.values[item]) for score, item in zip(row_scores, row, strict=True)]
        for row_scores, row in zip(scores.tolist(), indices.tolist(), strict=True)
    ]


def show(queries: Sequence[str], answers: Sequence[Sequence[Hit]]) -> None:
    """Print the results of each query as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for query, hits in zip(queries, answers, strict=True):
        table = Table(title=Text(str(query)), title_justify="left")
        for name in ("rank", "score", "id", "value"):
            table.add_column(name, justify="right" if name in ("rank", "score") else "left")
        for rank, hit in enumerate(hits, start=1):
            # Text, not markup: a caption may contain brackets.
            table.add_row(str(rank), f"{hit.score:.4f}", Text(hit.id), Text(hit.value or ""))
        console.print(table)


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
