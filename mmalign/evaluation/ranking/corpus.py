"""Galleries of retrieval: the evaluated split, or the source's full corpus."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmalign.data.caching.sample_cache import Samples
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record, Source
from mmalign.data.validation import with_names
from mmalign.embedding.jagged import pack
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import BadSample, UserError
from mmalign.inference import Counted
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.types import Inputs

GALLERIES = {
    "split": "the records of the evaluated split",
    "corpus": "the source's full corpus, `Source.corpus`; the split where the source lists none",
}


@dataclass(frozen=True)
class Corpus:
    """The embedded corpus of one tower.

    Args:
        embedded: Its embeddings; `record_indices` are indices into `records`.
        records: All corpus records. One with the id of a record of the data also has that record's group and values.
        rejected: Reasons of the records that cannot be used.
        source: The source that lists the corpus.
    """

    embedded: EmbeddedSplit
    records: Sequence[Record]
    rejected: Sequence[str]
    source: Source

    def records_for(self, relevance: str) -> Sequence[Record]:
        """The records with what a relevance criterion reads: only `group` needs groups, which can be slow to find."""
        return self.source.grouped(self.records) if relevance == "group" else self.records


def corpora(data: Dataset, towers: Sequence[str], gallery: str) -> dict[str, list[Record]]:
    """The corpus of each tower for which the source lists one; empty for `split`.

    Raises:
        UserError: unknown gallery, or the source lists no corpus of any of the towers.
    """
    if gallery not in GALLERIES:
        raise UserError(f"--gallery: no gallery called {gallery!r}{nearest(gallery, GALLERIES)}")
    if gallery == "split":
        return {}
    listed = {tower: data.source.corpus(tower) for tower in towers}
    records_of = {
        tower: _joined([*map(with_names, records)], data.records) for tower, records in listed.items() if records
    }
    if not records_of:
        name = data.config.source
        raise UserError(f"--gallery corpus: the source {name!r} lists no corpus of {' or '.join(towers)}")
    return records_of


def embed_corpus(
    model: Aligner,
    data: Dataset,
    tower: str,
    records: Sequence[Record],
    *,
    batch_size: int = 256,
    vectors_only: bool = False,
) -> Corpus:
    """Decode and embed a corpus one batch at a time; only embeddings stay in memory.

    With `--data.cache`, a modality that supports it keeps the decoded samples in that folder.

    Args:
        model: The model, which uses its own transform.
        data: The data set whose source reads the records.
        tower: Name of the tower.
        records: The corpus.
        batch_size: Samples per forward pass.
        vectors_only: Keep only the vectors.

    Raises:
        UserError: no record can be used.
    """
    cache: dict[str, Any] = {"folder": data.config.cache_folder, "workers": data.config.workers}
    samples = Samples(data.source, records, {tower: model.modalities[tower]}, cache_bytes=0, **cache)
    samples.read_many([row for row, record in enumerate(records) if record.problem is None])
    samples.featurise_many(tower, model.transforms[tower])
    rejected: dict[int, str] = {}

    def batches() -> Iterator[tuple[Inputs, Tensor]]:
        for start in range(0, len(records), batch_size):
            indices = range(start, min(start + batch_size, len(records)))
            items = [item for index in indices for item in _items(model, samples, tower, index, rejected)]
            if items:
                inputs = model.transforms[tower].collate([item for _, item in items])
                yield inputs, torch.tensor([index for index, _ in items])

    counted = Counted(batches(), -(-len(records) // batch_size))
    embeddings = model.embed_batches(tower, counted, partial(pack, vectors_only=vectors_only))
    if embeddings is None:
        why = next(iter(rejected.values()), "none has a value")
        raise UserError(f"none of the {len(records)} corpus records of {tower!r} can be used: {why}")
    return Corpus(EmbeddedSplit(*embeddings), records, [*rejected.values()], data.source)


def _items(model: Aligner, samples: Samples, tower: str, index: int, rejected: dict[int, str]) -> list[tuple[int, Any]]:
    """All alternatives of one record; none if one of them cannot be used."""
    record, items = samples.records[index], []
    if record.problem is not None:
        rejected[index] = str(record.problem)
        return []
    for alternative in range(len(record.values.get(tower, ()))):
        try:
            items.append((index, samples.item(index, tower, model.transforms[tower], alternative=alternative)))
        except BadSample as error:
            rejected[index] = str(error)
            return []
    return items


def _joined(corpus: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """The corpus with the group and the other towers' values of the data's record of the same id."""
    by_id = {record.id: record for record in records}
    return [_with(one, by_id.get(one.id)) for one in corpus]


def _with(listed: Record, record: Record | None) -> Record:
    if record is None:
        return listed
    group = record.group if listed.group is None else listed.group
    return replace(listed, group=group, values={**record.values, **listed.values})
