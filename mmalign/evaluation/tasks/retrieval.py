"""Retrieval in both directions: the ranks of relevant gallery items by the model's score."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import AVERAGE
from mmalign.embedding.scoring import Block, full_blocks
from mmalign.errors import UserError
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.ranking.corpus import GALLERIES
from mmalign.evaluation.ranking.query_sets import QuerySet
from mmalign.evaluation.ranking.rank_fusion import mean_rank_blocks, members, names, query_sets_of
from mmalign.evaluation.ranking.ranks import TIES, Ranks, rank_blocks
from mmalign.evaluation.ranking.relevance import RELEVANCE, RelevanceMatrix
from mmalign.evaluation.ranking.rerank import reranked_blocks
from mmalign.evaluation.report.figures import similarity_of
from mmalign.evaluation.report.result import EvalResult, provenance, rows_of
from mmalign.model import Aligner

KS = {"split": (1, 5, 10), "corpus": (1, 10, 100)}
PROTOCOL = {
    "hit@k": "fraction of queries with at least one relevant item among the first k",
    "recall@k": "fraction of a query's relevant items that are among the first k, mean over queries",
    "mrr, median_rank, mean_rank": "of the first relevant item",
    "no_relevant_item": "queries excluded because the gallery contains no relevant item",
    "intervals": "95 % percentile bootstrap, whole records drawn as queries, gallery kept",
}
ITEMS = "every alternative of every record is an item"
EXCLUDED = "queries whose group occurs in the training split are excluded"
RERANK = "the first {} gallery items by the cosine of vectors are re-ranked by the full score, ahead of all others"
ENSEMBLE = "gallery items are ranked by the mean of the ranks of {} models"


def evaluate_retrieval(
    model: Aligner,
    data: Dataset,
    *,
    a: str,
    b: str,
    split: str,
    relevance: str = "record",
    batch_size: int = 64,
    bootstrap: int = 1000,
    seed: int = 0,
    ks: Sequence[int] | None = None,
    score: str = "",
    gallery: str = "split",
    ties: str = "worst",
    exclude_seen_groups: bool = False,
    rerank: int = 0,
    ensemble: Sequence[str | Path | Aligner] = (),
    average: Sequence[str] = (),
) -> EvalResult:
    """Retrieve `b` by `a` and `a` by `b`, scored by the objective that joins them.

    Args:
        model: What to measure.
        data: The data set, prepared.
        a: One tower.
        b: The other tower.
        split: Whose records are queries and, unless there is a corpus, gallery.
        relevance: Which gallery items are relevant: `record` (of the query's record), `content` (also of equal content)
            or `group` (of the query's group).
        batch_size: Items a forward pass.
        bootstrap: Resamples behind each interval; 0 = no intervals.
        seed: Seed of the resampling.
        ks: Lengths of the list for hit@k and recall@k; None: 1, 5, 10, or of a corpus 1, 10, 100.
        score: Another score that the pair's objective offers.
        gallery: The evaluated `split`, or the source's full `corpus`. Where the source lists no corpus of a tower, its
            gallery is the split; the result records this.
        ties: `worst`: among equal scores wrong answers come first; `middle`: all orders of equal scores count alike.
        exclude_seen_groups: Exclude queries whose group also occurs in the training split.
        rerank: Number of gallery items per query, the first by the cosine of vectors, that are re-ranked by the full
            score and stay ahead of all others; 0: every pair is scored in full.
        ensemble: Further bundles or models: gallery items are ranked by the mean of the ranks of all models.
        average: Sides of which a record's alternatives become one item, the mean of their vectors: the clips of one
            study. By content, its first alternative counts.

    Returns:
        Scores by direction, `<a>_to_<b>` and `<b>_to_<a>`. `details`: the `Ranks` by direction,
        `embeddings` by side (tokens packed: take rows of them), `similarity` for the picture.

    Raises:
        UserError: a side is absent from the split, scores are not finite, no query has a relevant item, or the source
            has no corpus.
    """
    if a == b:
        raise UserError(f"retrieval needs two towers, got {a!r} twice")
    lengths = _checked(ks, gallery)
    records = data.records(split)
    models = members(model, ensemble, (a, b))
    options: dict[str, Any] = {"gallery": gallery, "exclude_seen_groups": exclude_seen_groups, "batch_size": batch_size}
    made = query_sets_of(models, data, (a, b), split, score=score, average=average, **options)
    sides, asked = made[0]
    scores: dict[str, Any] = {}
    details: dict[str, Any] = {"embeddings": sides}
    for name, one in asked.items():
        listed = None if one.corpus is None else one.corpus.records_for(relevance)
        relevant = RelevanceMatrix(one.queries, one.gallery, records, relevance=relevance, gallery_records=listed)
        each = [_blocks(it, of[name], rerank=rerank, score=score) for it, (_, of) in zip(models, made, strict=True)]
        blocks = each[0] if len(each) == 1 else mean_rank_blocks(each)
        found = rank_blocks(blocks, relevant, gallery=len(one.gallery), ks=lengths, ties=ties)
        scores[name] = summary(found, one.queries.record_indices, resamples=bootstrap, seed=seed)
        scores[name]["no_relevant_item"] = len(one.queries) - len(found.queries)
        if exclude_seen_groups:
            scores[name]["seen_in_training"] = one.seen
        details[name] = found
    details["similarity"] = similarity_of(model, sides[a], sides[b], records, relevance=relevance)
    protocol = {"ranks": f"1 = first; {TIES[ties]}", **PROTOCOL, "relevance": f"{relevance}: {RELEVANCE[relevance]}"}
    protocol |= {"score": score or "as trained", "gallery": f"{gallery}: {GALLERIES[gallery]}; {ITEMS}"}
    protocol |= {"exclude_seen_groups": EXCLUDED} if exclude_seen_groups else {}
    protocol |= {"rerank": RERANK.format(rerank)} if rerank else {}
    protocol |= {"average": AVERAGE.format(", ".join(average))} if average else {}
    protocol |= {"ensemble": ENSEMBLE.format(len(models))} if ensemble else {}
    kept = provenance(model, data, split=split, seed=seed, protocol=protocol, resamples=bootstrap)
    kept |= {"gallery": {name: one.describe_gallery() for name, one in asked.items()}, "rows": rows_of(data, split)}
    kept |= {"bundles": names(models)} if ensemble else {}
    return EvalResult("retrieval", scores, kept, details)


def _blocks(model: Aligner, one: QuerySet, *, rerank: int, score: str) -> Iterator[Block]:
    sides = one.queries.embedding, one.gallery.embedding
    if rerank:
        return reranked_blocks(
            *sides, score=partial(model.similarity_pairwise, score=score), depth=rerank, device=model.device
        )
    return full_blocks(*sides, score=partial(model.similarity, score=score), device=model.device)


def _checked(ks: Sequence[int] | None, gallery: str) -> tuple[int, ...]:
    lengths = KS.get(gallery, KS["split"]) if ks is None else tuple(ks)
    if any(k < 1 for k in lengths) or len(set(lengths)) < len(lengths):
        raise UserError(f"--ks: expected different lengths of at least 1, got {list(lengths)}")
    return lengths


def summary(found: Ranks, records: Tensor, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Ranks -> scores, each with its interval.

    Args:
        found: Of one direction.
        records: Which record each query item belongs to, `(queries,)`: records are what is resampled.
        resamples: 0 = no intervals.
        seed: Seed of the resampling.
    """
    first = found.best.double() + 1
    columns: dict[str, Tensor] = {}
    for place, k in enumerate(found.ks):
        columns[f"hit@{k}"] = found.hit(place)
        columns[f"recall@{k}"] = found.found[:, place] / found.right.double()
    columns |= {"mrr": 1 / first, "mean_rank": first}
    values = torch.stack(list(columns.values()), dim=1)
    owner = records[found.queries].numpy()
    scores: dict[str, Any] = dict(zip(columns, values.mean(dim=0).tolist(), strict=True))
    scores["median_rank"] = float(np.median(first.numpy()))
    if resamples:
        intervals = boot.means(values.numpy(), owner, resamples=resamples, seed=seed)
        scores |= {f"{name}_ci": interval for name, interval in zip(columns, intervals, strict=True)}
        scores["median_rank_ci"] = boot.median(first.numpy(), owner, resamples=resamples, seed=seed)
    order = [*[*columns][:-1], "median_rank", "mean_rank"]
    paired = {key: scores[key] for name in order for key in (name, f"{name}_ci") if key in scores}
    return paired | {"n": len(first), "gallery": found.gallery}
