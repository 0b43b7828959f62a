"""For each query: the first gallery item and the first relevant one, with their scores."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.evaluation.ranking.ranks import Ranks
from mmalign.evaluation.report.rows import Columns, item_columns


class FirstItems:
    """Collects the first gallery item and the first relevant one of each query while `rank_blocks` ranks.

    Among items of equal score, an irrelevant one is the first, as the rank of the relevant one says.

    Example:
        >>> from scipy.sparse import csr_array
        >>> from mmalign.embedding.scoring import Block
        >>> from mmalign.evaluation.ranking.ranks import rank_blocks
        >>> first = FirstItems()
        >>> scores = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]])
        >>> found = rank_blocks([Block(0, scores, torch.zeros(2, 1))], csr_array([[0, 0, 1], [1, 0, 0]]), gallery=3,
        ...                     observe=first.add)
        >>> first.items.tolist(), first.relevant_items.tolist()
        ([1, 0], [2, 0])
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    @property
    def items(self) -> Tensor:
        """Index of each query's first gallery item, `(queries,)`."""
        return torch.cat([part[0] for part in self._parts])

    @property
    def scores(self) -> Tensor:
        """Score of each query's first gallery item, `(queries,)`."""
        return torch.cat([part[1] for part in self._parts])

    @property
    def relevant_items(self) -> Tensor:
        """Index of each query's first relevant gallery item, `(queries,)`; -1 = the gallery has none."""
        return torch.cat([part[2] for part in self._parts])

    @property
    def relevant_scores(self) -> Tensor:
        """Score of each query's first relevant gallery item, `(queries,)`; NaN = the gallery has none."""
        return torch.cat([part[3] for part in self._parts])

    def add(self, scores: Tensor, counts: Tensor, columns: Tensor, best: Tensor) -> None:
        """Add a block of queries.

        Args:
            scores: `(queries, gallery)`.
            counts: Number of relevant items of each query, `(queries,)`.
            columns: Indices of the relevant items, those of each query one after another, `(sum of counts,)`.
            best: Rank of each query's first relevant item, 0 = first, `(queries,)`.
        """
        owner = torch.repeat_interleave(torch.arange(len(scores), device=scores.device), counts)
        values = scores[owner, columns]
        bar = scores.new_full((len(scores),), -torch.inf).scatter_reduce(0, owner, values, "amax")
        highest = values == bar[owner]
        relevant = torch.full_like(counts, scores.shape[1]).scatter_reduce(0, owner[highest], columns[highest], "amin")
        item = _argmax(scores)
        first = scores.gather(1, item[:, None]).squeeze(1)
        is_relevant = torch.zeros_like(counts, dtype=torch.bool).index_fill(0, owner[columns == item[owner]], True)
        # A relevant item of the highest score whose rank is not the first: an irrelevant one has the same score.
        tied = (is_relevant & (best > 0)).nonzero().squeeze(1)
        if len(tied):
            irrelevant = scores.index_put((owner, columns), scores.new_tensor(-torch.inf))[tied]
            first[tied], item[tied] = irrelevant.max(dim=1)
        none = counts == 0
        parts = (item, first, relevant.masked_fill(none, -1), bar.masked_fill(none, torch.nan))
        self._parts.append(tuple(part.cpu() for part in parts))  # type: ignore[arg-type]


def _argmax(scores: Tensor) -> Tensor:
    if scores.device.type == "cpu":  # several times as fast as torch there
        return torch.from_numpy(scores.numpy().argmax(axis=1))
    return scores.argmax(dim=1)


def retrieval_rows(
    direction: str,
    ranks: Ranks,
    first: FirstItems,
    queries: EmbeddedSplit,
    gallery: EmbeddedSplit,
    *,
    records: Sequence[Record],
    gallery_records: Sequence[Record],
) -> dict[str, list[object]]:
    """One row per query of a direction, as columns.

    `rank` (1 = first) and `score` are those of `truth`, the first relevant item; they are empty where the gallery has
    no relevant item, as are `hit@k` and `recall@k`. `prediction` is the first item. `uncertainty` is the query's, of a
    probabilistic model.
    """
    count = len(queries)
    rank: list[float | None] = [None] * count
    outcomes: dict[str, list[float | None]] = {
        f"{kind}@{k}": [None] * count for k in ranks.ks for kind in ("hit", "recall")
    }
    asked_queries = ranks.queries.tolist()
    for query, best in zip(asked_queries, ranks.best.tolist(), strict=True):
        rank[query] = float(best) + 1
    for column, k in enumerate(ranks.ks):
        found = {"hit": ranks.hit(column), "recall": ranks.retrieved[:, column] / ranks.relevant.double()}
        for kind, values in found.items():
            for query, value in zip(asked_queries, values.tolist(), strict=True):
                outcomes[f"{kind}@{k}"][query] = value
    items = item_columns(gallery, gallery_records)
    ids, alternatives = items["id"], items["alternative"].tolist()
    relevant = first.relevant_items.tolist()
    asked = item_columns(queries, records)
    variance = queries.embedding.log_variance
    return {
        "direction": [direction] * count,
        "query": asked["id"],
        "query_alternative": asked["alternative"].tolist(),
        "group": asked["group"],
        "rank": list(rank),
        "truth": [None if item < 0 else ids[item] for item in relevant],
        "truth_alternative": [None if item < 0 else alternatives[item] for item in relevant],
        "score": [
            None if item < 0 else score for item, score in zip(relevant, first.relevant_scores.tolist(), strict=True)
        ],
        "prediction": [ids[item] for item in first.items.tolist()],
        "prediction_alternative": [alternatives[item] for item in first.items.tolist()],
        "prediction_score": first.scores.tolist(),
        "uncertainty": [None] * count if variance is None else queries.embedding.uncertainty.tolist(),
        **outcomes,
    }


def joined(parts: Sequence[Columns]) -> dict[str, list[object]]:
    """The rows of several directions, one after another."""
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}
