"""Queries and gallery of one retrieval direction, and how many queries were excluded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.ranking.corpus import GALLERIES, Corpus, corpora, embed_corpus
from mmalign.model import Aligner
from mmalign.registry import nearest


@dataclass(frozen=True)
class QuerySet:
    """Queries of one tower and the gallery of the other.

    Args:
        queries: Embedded queries of the split, without the excluded ones.
        gallery: Embedded gallery, of the split or of the corpus.
        corpus: The corpus that the gallery is taken from; None: the split.
        seen: Number of queries excluded because their group occurs in the training split.
    """

    queries: EmbeddedSplit
    gallery: EmbeddedSplit
    corpus: Corpus | None
    seen: int

    def describe_gallery(self, records: Sequence[Record]) -> dict[str, Any]:
        """Kind, size and hash of the gallery, and the corpus records that cannot be used, for the result.

        Args:
            records: Records of the split.
        """
        if self.corpus is None:
            return {"set": "split", "size": len(self.gallery), "hash": _content_hash(self.gallery, records)}
        refused = {"unusable": len(self.corpus.rejected), "reasons": list(self.corpus.rejected[:3])}
        known = _content_hash(self.gallery, self.corpus.records)
        return {"set": "corpus", "size": len(self.gallery), "hash": known, **refused}


def _content_hash(embedded: EmbeddedSplit, records: Sequence[Record]) -> str:
    """Hash of the ids of the items, in order, and of their content where that is a string."""
    digest, tower = hashlib.sha256(), embedded.embedding.tower
    items = zip(embedded.record_indices.tolist(), embedded.alternative_indices.tolist(), strict=True)
    for record, alternative in items:
        value = records[record].values[tower][alternative]
        shown = value if isinstance(value, str) else ""
        digest.update(repr((records[record].id, alternative, shown)).encode(errors="backslashreplace"))
    return digest.hexdigest()[:16]


def query_sets(
    model: Aligner,
    data: Dataset,
    towers: tuple[str, str],
    split: str,
    *,
    gallery: str = "split",
    exclude_seen_groups: bool = False,
    batch_size: int = 64,
    vectors_only: bool = False,
    average: Sequence[str] = (),
) -> tuple[dict[str, EmbeddedSplit], dict[str, QuerySet]]:
    """Embed both towers of a split and the corpora; then the query set of each direction, `<query>_to_<gallery>`.

    Of a tower with itself there is one direction: the first alternative of each record retrieves its other ones.

    Raises:
        UserError: a tower is absent from the split, the source has no corpus, no record has a group to exclude by, or
            no record has several alternatives of a tower that is compared with itself.
    """
    records = data.split(split).records
    known = _seen_groups(data, records, split) if exclude_seen_groups else None
    lists = {} if gallery == "split" else corpora(_with_source(data, gallery), towers, gallery)
    options: dict[str, Any] = {"batch_size": batch_size, "vectors_only": vectors_only}
    embedded = {
        tower: embed_split(model, data, tower, split, packed=True, average=average, **options) for tower in towers
    }
    source = _with_source(data, gallery)
    corpus = {tower: embed_corpus(model, source, tower, records, **options) for tower, records in lists.items()}
    sets = {}
    if towers[0] == towers[1]:
        first, others = first_and_others(embedded[towers[0]])
        queries = first if known is None else _without(first, records, known)
        return embedded, {"_to_".join(towers): QuerySet(queries, others, None, len(first) - len(queries))}
    for asking, answering in (towers, towers[::-1]):
        every, listed = embedded[asking], corpus.get(answering)
        queries = every if known is None else _without(every, records, known)
        items = embedded[answering] if listed is None else listed.embedded
        sets[f"{asking}_to_{answering}"] = QuerySet(queries, items, listed, len(every) - len(queries))
    return embedded, sets


def first_and_others(embedded: EmbeddedSplit) -> tuple[EmbeddedSplit, EmbeddedSplit]:
    """The first alternative of each record, and all others: queries and gallery of a tower with itself.

    Raises:
        UserError: no record has several.
    """
    is_first = embedded.alternative_indices == 0
    if bool(is_first.all()):
        tower = embedded.embedding.tower
        raise UserError(
            f"retrieval of {tower!r} with itself: the first alternative of a record retrieves its others, and every "
            "record has one; several in one cell are read with --data.separator"
        )
    return embedded.keep(is_first), embedded.keep(~is_first)


def _with_source(data: Dataset, gallery: str) -> Dataset:
    if gallery not in GALLERIES:
        raise UserError(f"--gallery: no gallery called {gallery!r}{nearest(gallery, GALLERIES)}")
    if not isinstance(data, Dataset):
        raise UserError(f"--gallery {gallery} needs a source, got {type(data).__name__}")
    return data


def _seen_groups(data: Dataset, records: Sequence[Record], split: str) -> set[str]:
    if not isinstance(data, Dataset) or all(record.group is None for record in records):
        raise UserError("--exclude_seen_groups: no record has a group; name its column with --data.columns.group")
    if split in ("train", "all"):
        raise UserError(f"--exclude_seen_groups would exclude every training record, and split {split!r} contains them")
    rows = zip(data.records, data.splits, strict=True)
    return {record.group for record, where in rows if where == "train" and record.group is not None}


def _without(queries: EmbeddedSplit, records: Sequence[Record], known: set[str]) -> EmbeddedSplit:
    unseen = torch.tensor([records[row].group not in known for row in queries.record_indices.tolist()])
    if not bool(unseen.any()):
        raise UserError(
            "--exclude_seen_groups: the group of every query occurs in the training split; no query is left"
        )
    return queries.keep(unseen)
