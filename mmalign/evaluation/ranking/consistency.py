"""Rank consistency: how much the rank of one record differs between its alternatives, such as languages or captions."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.ranking.query_sets import QuerySet
from mmalign.evaluation.ranking.ranks import Ranks

PROTOCOL = (
    "of the first {} alternatives of {} in each record, each with its own gallery: rank_sd is the mean over queries of "
    "the standard deviation of the first relevant item's rank over the alternatives, rank_variance the mean variance "
    "(both divided by the number of alternatives)"
)


def alternatives_of(embedded: EmbeddedSplit, tower: str) -> int:
    """The number of alternatives that every record of the split has.

    Raises:
        UserError: some record has one.
    """
    counts = torch.unique_consecutive(embedded.record_indices, return_counts=True)[1]
    if int(counts.min()) < 2:
        single = f"{int((counts < 2).sum())} of {len(counts)} records have one"
        raise UserError(
            f"--consistency {tower}: expected at least 2 alternatives in every record, and {single}; several in one "
            "cell are read with --data.separator"
        )
    return int(counts.min())


def of_alternatives(one: QuerySet, tower: str, count: int) -> Iterator[QuerySet]:
    """The queries and gallery with alternative 0 of a tower alone, with alternative 1 alone, and so on.

    Args:
        one: Queries and gallery of one direction; one of the two is of that tower.
        tower: The tower.
        count: Number of alternatives.
    """
    side = "queries" if one.queries.embedding.tower == tower else "gallery"
    every: EmbeddedSplit = getattr(one, side)
    for alternative in range(count):
        changed = every.keep(every.alternative_indices == alternative)
        yield replace(one, queries=changed) if side == "queries" else replace(one, gallery=changed)


def consistency_scores(
    one: QuerySet, tower: str, count: int, rank: Callable[[QuerySet], Ranks], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Spread of the ranks over alternatives, `rank_sd` and `rank_variance`, each with its interval over records.

    Args:
        one: Queries and gallery of one direction.
        tower: The tower whose alternatives are compared.
        count: Number of alternatives, see `alternatives_of`.
        rank: Ranks the gallery of some queries.
        resamples: 0 = no intervals.
        seed: Seed of the resampling.
    """
    ranks, records = [], torch.zeros(0)
    for part in of_alternatives(one, tower, count):
        ranked = rank(part)
        ranks.append(ranked.best.double())
        records = part.queries.record_indices[ranked.queries]
    spread = rank_spread(torch.stack(ranks, dim=1))
    scores: dict[str, Any] = {}
    columns = np.stack([values.numpy() for values in spread.values()], axis=1)
    intervals = boot.means(columns, records.numpy(), resamples=resamples, seed=seed)
    for name, values, interval in zip(spread, columns.T, intervals, strict=True):
        scores[name] = float(values.mean())
        if interval:
            scores[f"{name}_ci"] = interval
    return scores


def rank_spread(ranks: Tensor) -> dict[str, Tensor]:
    """Standard deviation and variance of each query's ranks over the alternatives, divided by their number.

        rank_sd = sqrt(mean over l of (r_jl - mean over l of r_jl)^2),    rank_variance = rank_sd^2

    CCRK (Nie et al. 2024, arXiv 2406.18254) names the mean of it over queries Mean Rank Variance; its released code
    computes the mean standard deviation.

    Args:
        ranks: Rank of query j with alternative l, `(queries, alternatives)`.

    Returns:
        `rank_sd` and `rank_variance`, `(queries,)` each.

    Example:
        >>> spread = rank_spread(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 2.0, 4.0, 6.0]]))
        >>> spread["rank_sd"].mean(), spread["rank_variance"].mean()
        (tensor(1.1180), tensor(2.5000))
    """
    variance = ranks.var(dim=1, correction=0)
    return {"rank_sd": variance.sqrt(), "rank_variance": variance}
