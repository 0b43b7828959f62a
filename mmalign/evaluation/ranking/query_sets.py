"""One direction of a retrieval: who asks, among what, and who was left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.embedding.jagged import keep
from mmalign.embedding.loop import EmbeddedSplit, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.ranking.corpus import SETS, Corpus, corpora, embed_corpus
from mmalign.model import Aligner
from mmalign.registry import nearest


@dataclass(frozen=True)
class Direction:
    """One side asks, the other answers.

    Args:
        queries: Of the split, less those left out.
        gallery: Of the split, or of the corpus.
        corpus: Where the gallery is from; None = the split.
        seen: How many queries were left out because training knows their group.
    """

    queries: EmbeddedSplit
    gallery: EmbeddedSplit
    corpus: Corpus | None
    seen: int

    def candidates(self) -> dict[str, Any]:
        """What the gallery is, for the result."""
        if self.corpus is None:
            return {"set": "split", "size": len(self.gallery)}
        refused = {"unusable": len(self.corpus.rejected), "reasons": list(self.corpus.rejected[:3])}
        return {"set": "corpus", "size": len(self.gallery), **refused}


def directions(
    model: Aligner,
    data: Dataset,
    sides: tuple[str, str],
    split: str,
    *,
    candidates: str = "split",
    strict: bool = False,
    batch_size: int = 64,
    vectors_only: bool = False,
    average: Sequence[str] = (),
) -> tuple[dict[str, EmbeddedSplit], dict[str, Direction]]:
    """Embed both sides of a split and the corpora; then who asks whom, by `<asking>_to_<answering>`.

    Raises:
        UserError: a side is absent from the split, the source has no corpus, or no record has a group to be strict by.
    """
    records = data.records(split)
    known = _seen_groups(data, records, split) if strict else None
    lists = {} if candidates == "split" else corpora(_paired(data, candidates), sides, candidates)
    kept: dict[str, Any] = {"batch_size": batch_size, "vectors_only": vectors_only}
    embedded = {side: embed_split(model, data, side, split, packed=True, average=average, **kept) for side in sides}
    corpus = {side: embed_corpus(model, _paired(data, candidates), side, lists[side], **kept) for side in lists}
    found = {}
    for asking, answering in (sides, sides[::-1]):
        queries, wide = embedded[asking], corpus.get(answering)
        asks = queries if known is None else _without(queries, records, known)
        gallery = embedded[answering] if wide is None else wide.side
        found[f"{asking}_to_{answering}"] = Direction(asks, gallery, wide, len(queries) - len(asks))
    return embedded, found


def _paired(data: Dataset, candidates: str) -> Dataset:
    if candidates not in SETS:
        raise UserError(f"--candidates: no set called {candidates!r}{nearest(candidates, SETS)}")
    if not isinstance(data, Dataset):
        raise UserError(f"--candidates {candidates} needs a source, got {type(data).__name__}")
    return data


def _seen_groups(data: Dataset, records: Sequence[Record], split: str) -> set[str]:
    if not isinstance(data, Dataset) or all(record.group is None for record in records):
        raise UserError("--strict: no record has a group; name its column with --data.columns.group")
    if split in ("train", "all"):
        raise UserError(f"--strict leaves out what training rows know, which is all of split {split!r}")
    rows = zip(data.all_records, data.splits, strict=True)
    return {record.group for record, where in rows if where == "train" and record.group is not None}


def _without(queries: EmbeddedSplit, records: Sequence[Record], known: set[str]) -> EmbeddedSplit:
    unseen = torch.tensor([records[row].group not in known for row in queries.record_indices.tolist()])
    if not bool(unseen.any()):
        raise UserError("--strict: every query's group is among the training rows; nothing is left to ask")
    return EmbeddedSplit(keep(queries.embedding, unseen), queries.record_indices[unseen])
