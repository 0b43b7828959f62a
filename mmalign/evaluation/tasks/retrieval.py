"""Retrieval in both directions: the ranks of relevant gallery items by the model's score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.embedding.loop import AVERAGE
from mmalign.embedding.scoring import Block, full_blocks
from mmalign.errors import UserError
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.ranking.baseline import BASELINES, baseline_ranks, check_baseline
from mmalign.evaluation.ranking.consistency import PROTOCOL as CONSISTENCY
from mmalign.evaluation.ranking.consistency import alternatives_of, consistency_scores
from mmalign.evaluation.ranking.corpus import GALLERIES
from mmalign.evaluation.ranking.first_items import FirstItems, joined, retrieval_rows
from mmalign.evaluation.ranking.query_sets import QuerySet
from mmalign.evaluation.ranking.rank_fusion import mean_rank_blocks, members, names, query_sets_of
from mmalign.evaluation.ranking.ranks import TIES, Ranks, rank_blocks
from mmalign.evaluation.ranking.relevance import RELEVANCE, RelevanceMatrix
from mmalign.evaluation.ranking.rerank import reranked_blocks
from mmalign.evaluation.report.figures import similarity_of
from mmalign.evaluation.report.result import EvalResult, rows_of
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.model import Aligner

KS = {"split": (1, 5, 10), "corpus": (1, 10, 100)}
PROTOCOL = {
    "hit@k": "fraction of queries with at least one relevant item among the first k",
    "recall@k": "fraction of a query's relevant items that are among the first k, mean over queries",
    "mrr, median_rank, mean_rank": "of the first relevant item",
    "no_relevant_item": "queries excluded because the gallery contains no relevant item",
    "intervals": "95 % percentile bootstrap, whole records drawn as queries, gallery fixed",
}
ITEMS = "every alternative of every record is an item"
EXCLUDED = "queries whose group occurs in the training split are excluded"
ITSELF = "queries are the first alternative of each record, the gallery all other alternatives"
RERANK = "the first {} gallery items by the cosine of vectors are re-ranked by the full score, ahead of all others"
ENSEMBLE = "gallery items are ranked by the mean of the ranks of {} models"


@dataclass(frozen=True)
class Retrieval(Task):
    """Retrieval in both directions, scored by the objective that joins the two towers.

    Args:
        relevance: Relevant gallery items: `record` (of the query's record), `content` (also of equal content) or
            `group` (of the query's group).
        gallery: Retrieval gallery: the evaluated `split`, or the source's full `corpus`. Where the source lists no
            corpus of a tower, its gallery is the split; the result records this.
        ks: Values of k in hit@k and recall@k; default: 1, 5, 10, or for a corpus 1, 10, 100.
        ties: `worst` ranks relevant items last among equal scores; `middle` averages over all orders.
        exclude_seen_groups: Exclude queries whose group also occurs in the training split.
        rerank: Number of gallery items per query, the first by the cosine of vectors, that are re-ranked by the full
            score and stay ahead of all others; 0: every pair is scored in full.
        ensemble: Further bundles or models: gallery items are ranked by the mean of the ranks of all models.
        average: Towers in which a record's alternatives become one item, the mean of their vectors. For
            `content`, the first alternative counts.
        score: Another score of the pair's objective, such as mean or codes; "": as trained.
        consistency: A tower with several alternatives per record, such as languages or captions: report how much a
            record's rank differs between them (`rank_sd`, `rank_variance`). "": not reported.
        baseline: A ranking without a model beside the model's, of texts by texts: `bm25`. "": none.
    """

    name: ClassVar[str] = "retrieval"
    has_rows: ClassVar[bool] = True

    relevance: str = "record"
    gallery: str = "split"
    ks: Sequence[int] | None = None
    ties: str = "worst"
    exclude_seen_groups: bool = False
    rerank: int = 0
    ensemble: Sequence[str | Path | Aligner] = ()
    average: Sequence[str] = ()
    score: str = ""
    consistency: str = ""
    baseline: str = ""

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """Both towers."""
        return pair

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Rank the gallery of each tower by the queries of the other; of one tower, its records' other alternatives.

        Returns:
            Scores by direction, `<a>_to_<b>` and `<b>_to_<a>`. `details`: the `Ranks` by direction,
            `embeddings` by tower (tokens jagged), `similarity` for the figure.

        Raises:
            UserError: a tower is absent from the split, scores are not finite, no query has a relevant item, the
                source has no corpus, or a record has one alternative of the tower of `consistency`.
        """
        a, b = towers
        lengths = _checked(self.ks, self.gallery)
        self._check_options(towers)
        records = data.split(settings.split).records
        models = members(model, self.ensemble, (a, b))
        options: dict[str, Any] = {
            "gallery": self.gallery,
            "exclude_seen_groups": self.exclude_seen_groups,
            "batch_size": settings.batch_size,
        }
        of_models = query_sets_of(
            models, data, (a, b), settings.split, score=self.score, average=self.average, **options
        )
        embeddings, asked = of_models[0]
        count = alternatives_of(embeddings[self.consistency], self.consistency) if self.consistency else 0
        scores: dict[str, Any] = {}
        details: dict[str, Any] = {"embeddings": embeddings}
        rows = []
        for name, one in asked.items():
            listed = None if one.corpus is None else one.corpus.records_for(self.relevance)
            relevant = RelevanceMatrix(
                one.queries, one.gallery, records, relevance=self.relevance, gallery_records=listed
            )
            each = [
                _blocks(it, of[name], rerank=self.rerank, score=self.score)
                for it, (_, of) in zip(models, of_models, strict=True)
            ]
            blocks = each[0] if len(each) == 1 else mean_rank_blocks(each)
            first = FirstItems()
            ranks = rank_blocks(
                blocks, relevant, gallery=len(one.gallery), ks=lengths, ties=self.ties, observe=first.add
            )
            rows.append(
                retrieval_rows(
                    name, ranks, first, one.queries, one.gallery,
                    records=records, gallery_records=records if one.corpus is None else one.corpus.records,
                )
            )  # fmt: skip
            scores[name] = retrieval_scores(
                ranks, one.queries.record_indices, resamples=settings.bootstrap, seed=settings.seed
            )
            scores[name]["no_relevant_item"] = len(one.queries) - len(ranks.queries)
            if self.exclude_seen_groups:
                scores[name]["seen_in_training"] = one.seen
            if self.baseline:
                texts = all(model.modalities[tower].value_is_sample for tower in towers)
                base = baseline_ranks(one, records, relevant, ks=lengths, ties=self.ties, strings=texts)
                scores[name] |= _baseline_scores(self.baseline, base, one, settings)
            if self.consistency:
                scores[name] |= consistency_scores(
                    one, self.consistency, count, partial(self._ranks, model, records),
                    resamples=settings.bootstrap, seed=settings.seed,
                )  # fmt: skip
            details[name] = ranks
        shown = (embeddings[a], embeddings[b]) if a != b else (one.queries, one.gallery)
        details["similarity"] = similarity_of(model, *shown, data.split(settings.split), relevance=self.relevance)
        protocol = {
            "ranks": f"1 = first; {TIES[self.ties]}",
            **PROTOCOL,
            "relevance": f"{self.relevance}: {RELEVANCE[self.relevance]}",
        }
        protocol |= {
            "score": self.score or "as trained",
            "gallery": f"{self.gallery}: {GALLERIES[self.gallery]}; {ITEMS}",
        }
        protocol |= {"exclude_seen_groups": EXCLUDED} if self.exclude_seen_groups else {}
        protocol |= {"rerank": RERANK.format(self.rerank)} if self.rerank else {}
        protocol |= {"average": AVERAGE.format(", ".join(self.average))} if self.average else {}
        protocol |= {"ensemble": ENSEMBLE.format(len(models))} if self.ensemble else {}
        protocol |= {"baseline": f"{self.baseline}: {BASELINES[self.baseline]}"} if self.baseline else {}
        protocol |= {"itself": ITSELF} if a == b else {}
        protocol |= {"consistency": CONSISTENCY.format(count, self.consistency)} if self.consistency else {}
        origin = settings.provenance(model, data, protocol)
        origin |= {
            "gallery": {name: one.describe_gallery(records) for name, one in asked.items()},
            "rows": rows_of(data, settings.split),
        }
        origin |= {"bundles": names(models)} if self.ensemble else {}
        return EvalResult("retrieval", scores, origin, details, joined(rows))

    def _ranks(self, model: Aligner, records: Sequence[Record], one: QuerySet) -> Ranks:
        """Ranks of one direction by one model, for the queries and the gallery of one alternative."""
        relevant = RelevanceMatrix(one.queries, one.gallery, records, relevance=self.relevance)
        blocks = _blocks(model, one, rerank=self.rerank, score=self.score)
        return rank_blocks(blocks, relevant, gallery=len(one.gallery), ks=(1,), ties=self.ties)

    def _check_options(self, towers: tuple[str, ...]) -> None:
        if self.baseline:
            check_baseline(self.baseline)
            if self.average:
                raise UserError("--baseline: it ranks texts, not means of alternatives; leave --average out")
        if towers[0] == towers[1] and (self.gallery != "split" or self.average or self.consistency):
            raise UserError(
                f"retrieval of {towers[0]!r} with itself: its gallery is the other alternatives of the split; leave "
                "--gallery, --average and --consistency out"
            )
        if not self.consistency:
            return
        where = f"--consistency {self.consistency}"
        if self.consistency not in towers:
            raise UserError(f"{where}: expected one of the two towers, {' or '.join(towers)}")
        if self.gallery != "split" or self.ensemble or self.consistency in self.average:
            raise UserError(
                f"{where}: it needs one model, the gallery split, and no average of that tower; drop the other option"
            )


def _blocks(model: Aligner, one: QuerySet, *, rerank: int, score: str) -> Iterator[Block]:
    embeddings = one.queries.embedding, one.gallery.embedding
    if rerank:
        return reranked_blocks(
            *embeddings, score=partial(model.similarity_pairwise, score=score), depth=rerank, device=model.device
        )
    return full_blocks(*embeddings, score=partial(model.similarity, score=score), device=model.device)


def _baseline_scores(name: str, ranks: Ranks, one: QuerySet, settings: EvalSettings) -> dict[str, Any]:
    """Hit rates and the mean reciprocal rank of a baseline, with intervals, under its name."""
    scores = retrieval_scores(ranks, one.queries.record_indices, resamples=settings.bootstrap, seed=settings.seed)
    return {f"{name}_{key}": value for key, value in scores.items() if key.startswith(("hit@", "mrr"))}


def _checked(ks: Sequence[int] | None, gallery: str) -> tuple[int, ...]:
    lengths = KS.get(gallery, KS["split"]) if ks is None else tuple(ks)
    if any(k < 1 for k in lengths) or len(set(lengths)) < len(lengths):
        raise UserError(f"--ks: expected different lengths of at least 1, got {list(lengths)}")
    return lengths


def chance(ranks: Ranks) -> dict[str, float]:
    """Expected hit@k and mean reciprocal rank if each query's gallery were in random order.

    With r relevant items of n, the first k items have none with probability C(n - r, k) / C(n, k), and the first
    relevant one has rank i with probability C(n - i, r - 1) / C(n, r).
    """
    n, counts = ranks.gallery, dict(zip(*np.unique(ranks.relevant.numpy(), return_counts=True), strict=True))
    share = {int(r): count / len(ranks.relevant) for r, count in counts.items()}
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # of factorials

    def none_before(r: int, k: int) -> float:
        """Probability that the first k items are irrelevant."""
        return float(np.exp(logs[n - r] - logs[n - r - k] + logs[n - k] - logs[n])) if k <= n - r else 0.0

    expected = {f"hit@{k}": sum(part * (1 - none_before(r, k)) for r, part in share.items()) for k in ranks.ks}
    mean = 0.0
    for r, part in share.items():
        i = np.arange(1, n - r + 2)
        log_choose = logs[n - i] - logs[r - 1] - logs[n - i - r + 1]
        mean += part * float((np.exp(log_choose - logs[n] + logs[r] + logs[n - r]) / i).sum())
    return expected | {"mrr": mean}


def retrieval_scores(ranks: Ranks, records: Tensor, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Scores of a retrieval from the ranks of its relevant items, each with its confidence interval.

    Args:
        ranks: Ranks of one direction.
        records: Index of the record of each query, `(queries,)`: records are resampled.
        resamples: 0 = no intervals.
        seed: Seed of the resampling.
    """
    first = ranks.best.double() + 1
    columns: dict[str, Tensor] = {}
    for column, k in enumerate(ranks.ks):
        columns[f"hit@{k}"] = ranks.hit(column)
        columns[f"recall@{k}"] = ranks.retrieved[:, column] / ranks.relevant.double()
    columns |= {"mrr": 1 / first, "mean_rank": first}
    values = torch.stack(list(columns.values()), dim=1)
    owner = records[ranks.queries].numpy()
    scores: dict[str, Any] = dict(zip(columns, values.mean(dim=0).tolist(), strict=True))
    scores["median_rank"] = float(np.median(first.numpy()))
    if resamples:
        intervals = boot.means(values.numpy(), owner, resamples=resamples, seed=seed)
        named = dict(zip(columns, intervals, strict=True))
        named["median_rank"] = boot.median(first.numpy(), owner, resamples=resamples, seed=seed)
        scores |= {f"{name}_ci": interval for name, interval in named.items() if interval}
    order = [*[*columns][:-1], "median_rank", "mean_rank"]
    paired = {key: scores[key] for name in order for key in (name, f"{name}_ci") if key in scores}
    return paired | {"n": len(first), "gallery": ranks.gallery, "chance": chance(ranks)}
