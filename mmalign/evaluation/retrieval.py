"""Retrieval, both directions: how high the right answers stand in the list that the model's scores make."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.evaluation import bootstrap as boot
from mmalign.evaluation.answers import CREDITS, RightAnswers
from mmalign.evaluation.draw import similarity_of
from mmalign.evaluation.embed import EvalData, embed_side
from mmalign.evaluation.ranks import Ranks, Score, ranks, score_blocks
from mmalign.evaluation.results import EvalResult, provenance
from mmalign.model import Aligner
from mmalign.types import Embedding

KS = (1, 5, 10)
PROTOCOL = {
    "ranks": "1 = first; ties count against the model: among equal scores, wrong answers come first",
    "hit@k": "share of queries with at least one right answer among the first k",
    "recall@k": "share of a query's right answers that are among the first k, mean over queries",
    "mrr, median_rank, mean_rank": "of the first right answer",
    "gallery": "every alternative of every record of the split",
    "intervals": "95 % percentile bootstrap, whole records drawn as queries, gallery kept",
}


def evaluate_retrieval(
    model: Aligner,
    data: EvalData,
    *,
    a: str,
    b: str,
    split: str,
    credit: str = "pair",
    batch_size: int = 64,
    bootstrap: int = 1000,
    seed: int = 0,
    ks: Sequence[int] = KS,
    mode: str = "",
) -> EvalResult:
    """Retrieve `b` by `a` and `a` by `b`, scored by the objective that joins them.

    Args:
        model: What to measure.
        data: Prepared, with the model's transforms attached.
        a: One tower.
        b: The other tower.
        split: Whose records are queries and gallery.
        credit: Which answers are right: `pair` (of the same record), `content` (or of exactly equal content) or
            `group` (of the same group).
        batch_size: Items a forward pass.
        bootstrap: Resamples behind each interval; 0 = no intervals.
        seed: Seed of the resampling.
        ks: Lengths of the list for hit@k and recall@k.
        mode: Another score that the pair's objective offers.

    Returns:
        Scores by direction, `<a>_to_<b>` and `<b>_to_<a>`. `details`: the `Ranks` by direction,
        `embeddings` by side, `similarity` for the picture.

    Raises:
        UserError: a side is absent from the split, scores are not finite, or no query has a right answer.
    """
    if a == b:
        raise UserError(f"retrieval needs two towers, got {a!r} twice")
    records = data.records(split)
    sides = {side: embed_side(model, data, side, split, batch_size=batch_size) for side in (a, b)}
    scores: dict[str, Any] = {}
    details: dict[str, Any] = {"embeddings": sides}
    score = partial(model.score, mode=mode)
    for asking, answering in ((a, b), (b, a)):
        direction = f"{asking}_to_{answering}"
        queries, gallery = sides[asking], sides[answering]
        right = RightAnswers(queries, gallery, records, credit=credit)
        found = ranks(queries.embedding, gallery.embedding, right, score=score, ks=ks, device=model.device)
        scores[direction] = summary(found, queries.rows, resamples=bootstrap, seed=seed)
        details[direction] = found
    details["similarity"] = similarity_of(model, sides[a], sides[b], records, credit=credit)
    protocol = PROTOCOL | {"credit": f"{credit}: {CREDITS[credit]}", "score": mode or "as trained"}
    kept = provenance(model, data, split=split, seed=seed, protocol=protocol, resamples=bootstrap)
    return EvalResult("retrieval", scores, kept, details)


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
        columns[f"hit@{k}"] = (found.best < k).double()
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


def first_answers(
    queries: Embedding, gallery: Embedding, *, score: Score, k: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The best `k` of the gallery for each query: scores `(n, k)`, highest first, and their places."""
    tops = [
        block.topk(min(k, len(gallery)), dim=1)
        for _, block in score_blocks(queries, gallery, score=score, device=device)
    ]
    return torch.cat([top.values for top in tops]).cpu(), torch.cat([top.indices for top in tops]).cpu()
