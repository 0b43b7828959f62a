"""Similarity matrix, galleries of queries with their first items, and pairs to look at."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from mmalign.embedding.loop import EmbeddedSplit
from mmalign.embedding.scoring import first_answers
from mmalign.evaluation.ranking.relevance import RelevanceMatrix
from mmalign.evaluation.report.figures import figure
from mmalign.reporting.blocks import Block, Cell, Gallery, Text
from mmalign.reporting.context import Context
from mmalign.reporting.images import picture

QUERIES, ANSWERS, PAIRS = 5, 5, 3
SEEN = 200
"""Items of each query among which different contents are looked for."""
LARGEST = 20_000
"""Maximum size of a gallery that is scored again for the galleries."""


def similarity_page(context: Context) -> Sequence[Block]:
    """The similarity matrix of some records."""
    result = context.evaluations.results.get("retrieval")
    if result is None:
        return []
    drawn = figure(result)
    return [picture(drawn, "Similarity matrix: rows and columns are records of the two towers, colours their scores.")]


def retrieval_page(context: Context) -> Sequence[Block]:
    """Some queries of each direction with their first gallery items."""
    embeddings = context.embeddings
    if embeddings is None or max(len(one) for one in embeddings.values()) > LARGEST:
        return []
    return [_gallery(context, embeddings[a], embeddings[b]) for a, b in (context.pair, context.pair[::-1])]


def _gallery(context: Context, queries: EmbeddedSplit, gallery: EmbeddedSplit) -> Gallery:
    model, records = context.model, context.part.records
    first = [item for item, one in enumerate(queries.alternative_indices.tolist()) if one == 0]
    chosen = torch.tensor([first[step * len(first) // QUERIES] for step in range(min(QUERIES, len(first)))])
    asked = EmbeddedSplit(queries.embedding[chosen], queries.record_indices[chosen])
    score = partial(model.similarity, score=str(context.settings.get("score", "")))
    scores, items = first_answers(asked.embedding, gallery.embedding, score=score, k=SEEN, device=model.device)
    relevance = str(context.settings.get("relevance", "record"))
    relevant = RelevanceMatrix(asked, gallery, records, relevance=relevance)[0 : len(chosen)].toarray() > 0
    towers = queries.embedding.tower, gallery.embedding.tower
    rows_of, alternatives = gallery.record_indices.tolist(), gallery.alternative_indices.tolist()
    rows = []
    for query, row in enumerate(asked.record_indices.tolist()):
        cells = [context.cell(row, towers[0], title="query", caption=context.label(row), mark="query")]
        equal: dict[Any, list[int]] = {}  # content -> ranks
        for rank, item in enumerate(items[query].tolist()):
            value = records[rows_of[item]].values[towers[1]][alternatives[item]]
            equal.setdefault(value if isinstance(value, str) else item, []).append(rank)
        for ranks in list(equal.values())[:ANSWERS]:
            item, right = int(items[query, ranks[0]]), bool(relevant[query, items[query, ranks[0]]])
            more = f", {len(ranks) - 1} more of equal content" if len(ranks) > 1 else ""
            cells.append(
                context.cell(
                    rows_of[item], towers[1], alternatives[item],
                    title=f"{ranks[0] + 1}. {scores[query, ranks[0]]:.3f}",
                    caption=context.label(rows_of[item]) + more, mark="right" if right else "wrong",
                )
            )  # fmt: skip
        rows.append(cells)
    note = f"Each row: a query, then the first {ANSWERS} different items with rank and score. ✓ solid frame: relevant "
    note += f"({relevance}); ✗ dashed frame: not relevant. Queries are evenly spaced in the split."
    return Gallery(rows, f"{towers[0]} → {towers[1]}", note)


def pairs_page(context: Context) -> Sequence[Block]:
    """Per direction: queries with the highest score, the lowest rank, and the highest uncertainty."""
    result = context.evaluations.results.get("retrieval")
    if result is None or result.provenance["gallery"][next(iter(result.scores))]["set"] != "split":
        return []
    columns = {name: np.asarray(values, dtype=object) for name, values in result.rows.items()}
    index_of = {record.id: row for row, record in enumerate(context.part.records)}
    blocks: list[Block] = []
    a, b = context.pair
    known = (columns["direction"] == f"{a}_to_{b}") & np.array([rank is not None for rank in columns["rank"]])
    rows = np.flatnonzero(known)
    if not len(rows):
        return []
    rank, score = (columns[name][rows].astype(np.float64) for name in ("rank", "score"))
    gap = columns["prediction_score"][rows].astype(np.float64) - score
    uncertain = columns["uncertainty"][rows]
    best = np.flatnonzero(rank <= 1)[np.argsort(-score[rank <= 1], kind="stable")][:PAIRS]
    worst = np.argsort(-rank, kind="stable")[:PAIRS]
    worst = worst[rank[worst] > 1]
    if any(one is not None for one in uncertain):
        doubtful = np.argsort(-uncertain.astype(np.float64), kind="stable")[:PAIRS]
        how = "highest uncertainty of the query"
    else:
        wrong = np.flatnonzero(rank > 1)
        doubtful, how = wrong[np.argsort(gap[wrong], kind="stable")][:PAIRS], "smallest score gap to the first item"
    sections = [
        ("Best: first rank and highest score", best),
        ("Worst: lowest rank", worst),
        (f"Most uncertain: {how}", doubtful),
    ]
    for title, chosen in sections:
        if len(chosen):
            cells = [_pair(context, columns, rows[one], index_of) for one in chosen.tolist()]
            note = (
                "Each group: the query, its relevant item with rank and score, and the first item if it is another one."
            )
            blocks.append(Gallery(cells, f"{a} → {b}. {title}", note, compact=True))
    if not len(worst):
        blocks.append(Text(f"{a} → {b}: every query has a relevant item at rank 1."))
    return blocks


def _pair(context: Context, columns: dict[str, Any], row: int, index_of: dict[str, int]) -> list[Cell]:
    a, b = context.pair

    def item(name: str, tower: str, **parts: Any) -> Cell:
        record = index_of[columns[name][row]]
        alternative = int(columns[f"{name}_alternative"][row])
        return context.cell(record, tower, alternative, caption=context.label(record), **parts)

    rank, uncertainty = columns["rank"][row], columns["uncertainty"][row]
    title = "query" + ("" if uncertainty is None else f", uncertainty {uncertainty:.3g}")
    cells = [item("query", a, title=title, mark="query")]
    cells.append(item("truth", b, title=f"relevant: rank {rank:g}, {columns['score'][row]:.3f}", mark="right"))
    if rank > 1:
        cells.append(item("prediction", b, title=f"first: {columns['prediction_score'][row]:.3f}", mark="wrong"))
    return cells
