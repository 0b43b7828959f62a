"""The rows of a batch that have both towers of a pair, aligned."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmalign.types import Batch, Embedding


def common_items(
    embeddings: Mapping[str, Embedding], batch: Batch, a: str, b: str
) -> tuple[Embedding, Embedding, Tensor, Tensor | None]:
    """The rows that have both towers, with every item that tower b has of them.

    Returns:
        Embeddings `a` and `b`; the indices of the rows in the batch, `(rows,)`; and of each item of `b` the row that it
        belongs to, 0 to rows - 1, ascending `(items,)`. None instead of the last: row i of `b` belongs to row i of `a`.
    """
    rows_a, rows_b, owner = batch.sample_indices[a], batch.sample_indices[b], batch.owner.get(b)
    if owner is None:
        return *_one_to_one(embeddings[a], embeddings[b], rows_a, rows_b, len(batch)), None
    if len(rows_a) == len(rows_b) == len(batch):
        return embeddings[a], embeddings[b], rows_a, owner
    in_a, in_b = torch.isin(rows_a, rows_b), torch.isin(owner, rows_a)
    rows = rows_a[in_a]
    return embeddings[a][in_a], embeddings[b][in_b], rows, torch.searchsorted(rows, owner[in_b])


def common_rows(
    embeddings: Mapping[str, Embedding], batch: Batch, a: str, b: str
) -> tuple[Embedding, Embedding, Tensor]:
    """The rows that have both towers: embeddings `a` and `b`, aligned, and their indices in the batch.

    Of a tower with several items per row, the first item of each.
    """
    first_a, first_b = (_first_items(embeddings[tower], batch, tower) for tower in (a, b))
    return _one_to_one(first_a, first_b, batch.sample_indices[a], batch.sample_indices[b], len(batch))


def _one_to_one(
    a: Embedding, b: Embedding, rows_a: Tensor, rows_b: Tensor, batch: int
) -> tuple[Embedding, Embedding, Tensor]:
    if len(rows_a) == len(rows_b) == batch:
        return a, b, rows_a
    in_a, in_b = torch.isin(rows_a, rows_b), torch.isin(rows_b, rows_a)
    return a[in_a], b[in_b], rows_a[in_a]


def _first_items(embedding: Embedding, batch: Batch, tower: str) -> Embedding:
    if tower not in batch.owner:
        return embedding
    return embedding[torch.searchsorted(batch.owner[tower], batch.sample_indices[tower])]
