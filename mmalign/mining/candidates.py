"""Candidates for hard negatives: the first ranks of each record among records of other content, in tiles."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import keep
from mmalign.embedding.loop import EmbeddedSplit, embed_split
from mmalign.embedding.scoring import Score, demand_finite, score_blocks
from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Ints
from mmalign.mining.selection import Candidates, Counts
from mmalign.model import Aligner
from mmalign.types import Embedding

PAIRS = 512
"""Number of pairs of samples that are scored at a time when candidates are re-ranked."""

Pair = tuple[Embedding, Embedding]
"""Embeddings of the same records in two towers, row by row."""


def embedded_pairs(
    sources: Sequence[tuple[Aligner, Dataset]], towers: tuple[str, str], split: str, batch_size: int
) -> tuple[list[Pair], Ints]:
    """The first sample of each record that has both towers, embedded by each model.

    Args:
        sources: Models, each with the data as it decodes them.
        towers: Tower of the queries and tower of the candidates.
        split: Name of the split.
        batch_size: Samples per forward pass.

    Returns:
        One pair of embeddings per model, on the CPU, and the indices of the records in the split, ascending.

    Raises:
        UserError: fewer than two records have both towers.
    """
    every: list[dict[str, EmbeddedSplit]] = []
    for model, data in sources:
        bare = model.scores_vectors_only(*towers)
        every.append(
            {
                tower: embed_split(model, data, tower, split, batch_size=batch_size, packed=True, vectors_only=bare)
                for tower in set(towers)
            }
        )
    having = [set(one.record_indices.tolist()) for of in every for one in of.values()]
    records = np.array(sorted(set.intersection(*having)), dtype=np.int64)
    if len(records) < 2:
        came = f"{len(records)} of split {split!r}"
        raise UserError(f"mine: expected at least two records with {' and '.join(towers)}, got {came}")

    def firsts(one: EmbeddedSplit) -> Embedding:
        first = (one.alternative_indices == 0) & torch.isin(one.record_indices, torch.from_numpy(records))
        return keep(one.embedding, first)

    return [(firsts(of[towers[0]]), firsts(of[towers[1]])) for of in every], records


def candidates(
    pair: Pair,
    score: Score,
    groups: Tensor,
    depth: int,
    counts: Counts,
    *,
    features: Any = None,
    device: torch.device | str = "cpu",
) -> Iterator[Candidates]:
    """The first candidates of each record, in the order of the records; memory for one tile of scores.

    Args:
        pair: Embeddings of the records.
        score: Score of all queries of a tile with the gallery.
        groups: Group of each record, `(records,)`; records of one group are no candidates of each other.
        depth: Number of candidates of each record.
        counts: Counts to add to.
        features: Surface features of the records, by which candidates are ranked; None = by the score.
        device: Device of the scores.

    Raises:
        UserError: a score is NaN or infinite.
    """
    queries, gallery = pair
    for start, tile in score_blocks(queries, gallery, score=score, device=device):
        demand_finite(tile, queries, gallery, start)
        scores = tile.cpu()
        rows = torch.arange(start, start + len(scores))
        positives = scores[torch.arange(len(rows)), rows]
        keys = scores if features is None else _similarities(features, slice(start, start + len(scores)))
        related = groups[rows, None] == groups
        top = keys.masked_fill(related, -torch.inf).topk(min(depth, len(groups)), dim=1)
        related[torch.arange(len(rows)), rows] = False
        counts.related += int((related & (keys >= top.values[:, -1:])).sum())
        for at, positive in enumerate(positives.tolist()):
            known = top.values[at] > -torch.inf
            columns = top.indices[at][known]
            surfaces = None if features is None else top.values[at][known].double().numpy()
            yield Candidates(columns.numpy(), scores[at, columns].double().numpy(), positive, surfaces)


def rescored(
    found: Iterator[Candidates], pair: Pair, score: Callable[[Embedding, Embedding], Tensor], device: torch.device
) -> Iterator[Candidates]:
    """The candidates of each record with the scores of another model, in their order unless the surface ranks them.

    Args:
        found: Candidates of the records, in order.
        pair: Embeddings of the records by the other model.
        score: Rows of queries and as many rows of the gallery -> score of each pair, `(rows,)`.
        device: Device of the scores.
    """
    for row, one in enumerate(found):
        columns = torch.from_numpy(np.append(one.columns, row))
        rows = torch.full_like(columns, row)
        with torch.no_grad():
            parts = [
                score(pair[0][some].to(device), pair[1][others].to(device)).float().cpu()
                for some, others in zip(rows.split(PAIRS), columns.split(PAIRS), strict=True)  # type: ignore[no-untyped-call]
            ]
        scores = torch.cat(parts)
        demand_finite(scores[None], *pair, row)
        values, positive = scores[:-1].double().numpy(), float(scores[-1])
        if one.surfaces is not None:
            yield Candidates(one.columns, values, positive, one.surfaces)
        else:
            order = (-values).argsort(kind="stable")
            yield Candidates(one.columns[order], values[order], positive)


def _similarities(features: Any, rows: slice) -> Tensor:
    some = features[rows] @ features.T
    return torch.from_numpy(np.asarray(some if isinstance(some, np.ndarray) else some.toarray(), dtype=np.float32))
