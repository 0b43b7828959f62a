"""Retrieval, both directions: how high the right answers stand in the list that the model's scores make."""

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
from mmalign.evaluation.ranking.corpus import SETS
from mmalign.evaluation.ranking.query_sets import Direction
from mmalign.evaluation.ranking.rank_fusion import directions_of, mean_rank_blocks, members, names
from mmalign.evaluation.ranking.ranks import TIES, Ranks, rank_blocks
from mmalign.evaluation.ranking.relevance import CREDITS, RelevanceMatrix
from mmalign.evaluation.ranking.rerank import reranked_blocks
from mmalign.evaluation.report.figures import similarity_of
from mmalign.evaluation.report.result import EvalResult, provenance, rows_of
from mmalign.model import Aligner

KS = {"split": (1, 5, 10), "corpus": (1, 10, 100)}
PROTOCOL = {
    "hit@k": "share of queries with at least one right answer among the first k",
    "recall@k": "share of a query's right answers that are among the first k, mean over queries",
    "mrr, median_rank, mean_rank": "of the first right answer",
    "gallery": "every alternative of every candidate",
    "no_right_answer": "queries left out, because the gallery holds no right answer",
    "intervals": "95 % percentile bootstrap, whole records drawn as queries, gallery kept",
}
STRICT = "queries whose group is among the training rows are left out"
RERANK = "the first {} candidates by the cosine of vectors get the full score and stand above all others in its order"
ENSEMBLE = "mean of the ranks that each of {} models gives a candidate"


def evaluate_retrieval(
    model: Aligner,
    data: Dataset,
    *,
    a: str,
    b: str,
    split: str,
    credit: str = "pair",
    batch_size: int = 64,
    bootstrap: int = 1000,
    seed: int = 0,
    ks: Sequence[int] | None = None,
    score: str = "",
    candidates: str = "split",
    ties: str = "worst",
    strict: bool = False,
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
        credit: Which answers are right: `pair` (of the same record), `content` (or of exactly equal content) or
            `group` (of the same group).
        batch_size: Items a forward pass.
        bootstrap: Resamples behind each interval; 0 = no intervals.
        seed: Seed of the resampling.
        ks: Lengths of the list for hit@k and recall@k; None: 1, 5, 10, or of a corpus 1, 10, 100.
        score: Another score that the pair's objective offers.
        candidates: What answers are sought in: the `split`, or the `corpus` that the source lists. A side of which the
            source lists none is sought in the split, and the result says so.
        ties: `worst`: among equal scores wrong answers come first; `middle`: all orders of equal scores count alike.
        strict: Leave out queries whose record's group is among the data's training rows too.
        rerank: How many candidates of each query, the first by the cosine of vectors, get the full score and stand
            above all others; 0: every pair gets it.
        ensemble: Bundles (or models) beside the model: candidates are ranked by the mean of the ranks that each gives.
        average: Sides of which a record's alternatives become one item, the mean of their vectors: the clips of one
            study. By content, its first alternative counts.

    Returns:
        Scores by direction, `<a>_to_<b>` and `<b>_to_<a>`. `details`: the `Ranks` by direction,
        `embeddings` by side (tokens packed: take rows of them), `similarity` for the picture.

    Raises:
        UserError: a side is absent from the split, scores are not finite, no query has a right answer, or the source
            has no corpus.
    """
    if a == b:
        raise UserError(f"retrieval needs two towers, got {a!r} twice")
    lengths = _checked(ks, candidates)
    records = data.records(split)
    models = members(model, ensemble, (a, b))
    options: dict[str, Any] = {"candidates": candidates, "strict": strict, "batch_size": batch_size, "average": average}
    made = directions_of(models, data, (a, b), split, score=score, **options)
    sides, asked = made[0]
    scores: dict[str, Any] = {}
    details: dict[str, Any] = {"embeddings": sides}
    for name, one in asked.items():
        pool = None if one.corpus is None else one.corpus.answers(credit)
        right = RelevanceMatrix(one.queries, one.gallery, records, credit=credit, candidates=pool)
        each = [_blocks(it, of[name], rerank=rerank, score=score) for it, (_, of) in zip(models, made, strict=True)]
        blocks = each[0] if len(each) == 1 else mean_rank_blocks(each)
        found = rank_blocks(blocks, right, gallery=len(one.gallery), ks=lengths, ties=ties)
        scores[name] = summary(found, one.queries.record_indices, resamples=bootstrap, seed=seed)
        scores[name]["no_right_answer"] = len(one.queries) - len(found.queries)
        if strict:
            scores[name]["seen_in_training"] = one.seen
        details[name] = found
    details["similarity"] = similarity_of(model, sides[a], sides[b], records, credit=credit)
    protocol = {"ranks": f"1 = first; {TIES[ties]}", **PROTOCOL, "credit": f"{credit}: {CREDITS[credit]}"}
    protocol |= {"score": score or "as trained", "candidates": f"{candidates}: {SETS[candidates]}"}
    protocol |= {"strict": STRICT} if strict else {}
    protocol |= {"rerank": RERANK.format(rerank)} if rerank else {}
    protocol |= {"average": AVERAGE.format(", ".join(average))} if average else {}
    protocol |= {"ensemble": ENSEMBLE.format(len(models))} if ensemble else {}
    kept = provenance(model, data, split=split, seed=seed, protocol=protocol, resamples=bootstrap)
    kept |= {"candidates": {name: one.candidates() for name, one in asked.items()}, "rows": rows_of(data, split)}
    kept |= {"bundles": names(models)} if ensemble else {}
    return EvalResult("retrieval", scores, kept, details)


def _blocks(model: Aligner, one: Direction, *, rerank: int, score: str) -> Iterator[Block]:
    sides = one.queries.embedding, one.gallery.embedding
    if rerank:
        return reranked_blocks(
            *sides, score=partial(model.similarity_pairwise, score=score), depth=rerank, device=model.device
        )
    return full_blocks(*sides, score=partial(model.similarity, score=score), device=model.device)


def _checked(ks: Sequence[int] | None, candidates: str) -> tuple[int, ...]:
    lengths = KS.get(candidates, KS["split"]) if ks is None else tuple(ks)
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
