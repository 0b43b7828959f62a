"""A baseline without a model, beside the scores of a retrieval of texts by texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.evaluation.ranking import bm25
from mmalign.evaluation.ranking.bm25 import BM25
from mmalign.evaluation.ranking.query_sets import QuerySet
from mmalign.evaluation.ranking.ranks import Ranks, rank_blocks
from mmalign.registry import nearest

BASELINES: Mapping[str, str] = {"bm25": bm25.PROTOCOL}
"""Name -> how it ranks, for the result."""


def check_baseline(name: str) -> None:
    """Raise a `UserError` for a name that is no baseline."""
    if name not in BASELINES:
        raise UserError(f"--baseline: no baseline called {name!r}{nearest(name, BASELINES)}")


def baseline_ranks(
    one: QuerySet, records: Sequence[Record], relevant: Any, *, ks: Sequence[int], ties: str, strings: bool
) -> Ranks:
    """Ranks of one direction by the words of queries and gallery items.

    Args:
        one: Queries and gallery.
        records: Records of the split.
        relevant: As for `rank_blocks`.
        ks: Values of k.
        ties: Rule for ties.
        strings: Whether the samples of both towers are strings.

    Raises:
        UserError: they are not.
    """
    if not strings:
        towers = f"{one.queries.embedding.tower} and {one.gallery.embedding.tower}"
        raise UserError(f"--baseline bm25: it compares words, and not all samples of {towers} are texts; leave it out")
    listed = records if one.corpus is None else one.corpus.records
    blocks = BM25(_texts(one.gallery, listed)).blocks(_texts(one.queries, records))
    return rank_blocks(blocks, relevant, gallery=len(one.gallery), ks=ks, ties=ties)


def _texts(embedded: EmbeddedSplit, records: Sequence[Record]) -> list[str]:
    items = zip(embedded.record_indices.tolist(), embedded.alternative_indices.tolist(), strict=True)
    tower = embedded.embedding.tower
    return [records[record].values[tower][alternative] for record, alternative in items]
