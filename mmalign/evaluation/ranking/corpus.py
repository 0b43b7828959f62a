"""What queries are ranked against: the rows of the split, or the list that the source offers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.data.sample_cache import Samples
from mmalign.data.sources.base import Record, Source
from mmalign.embedding.jagged import pack
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import BadSample, UserError
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.types import Inputs

SETS = {"split": "the rows of the split", "corpus": "what the source lists beyond its rows, `Source.candidates`"}


@dataclass(frozen=True)
class Corpus:
    """The candidates of one side, embedded.

    Args:
        side: Their embeddings; `record_indices` point into `records`.
        records: Every candidate, with what the row that it stands for knows besides, where there is one.
        rejected: Of those that could not be used, why.
        source: Who listed them.
    """

    side: EmbeddedSplit
    records: Sequence[Record]
    rejected: Sequence[str]
    source: Source

    def answers(self, credit: str) -> Sequence[Record]:
        """The candidates with what a credit asks of them: only `group` needs groups, which may take long to find."""
        return self.source.grouped(self.records) if credit == "group" else self.records


def corpora(data: Dataset, sides: Sequence[str], candidates: str) -> dict[str, list[Record]]:
    """The candidates of each side that has its own; nothing for `split`.

    Raises:
        UserError: an unknown set, or the source lists candidates of neither side.
    """
    if candidates not in SETS:
        raise UserError(f"--candidates: no set called {candidates!r}{nearest(candidates, SETS)}")
    if candidates == "split":
        return {}
    listed = {side: data.source.candidates(side) for side in sides}
    found = {side: _joined(list(records), data.all_records) for side, records in listed.items() if records}
    if not found:
        name = data.source_config.source
        raise UserError(f"--candidates corpus: the source {name!r} lists no candidates of {' or '.join(sides)}")
    return found


def embed_corpus(
    model: Aligner,
    data: Dataset,
    side: str,
    records: Sequence[Record],
    *,
    batch_size: int = 256,
    vectors_only: bool = False,
) -> Corpus:
    """Decode and embed candidates a batch at a time; only embeddings are held.

    Where the data has a folder for it (`--data.cache`), a modality that knows how keeps there what was read.

    Args:
        model: What embeds them, with its own transform.
        data: Whose source fetches them.
        side: Their tower.
        records: The candidates.
        batch_size: Candidates a forward pass.
        vectors_only: Keep only the vectors.

    Raises:
        UserError: not one of them can be used.
    """
    kept: dict[str, Any] = {"folder": data.cache, "workers": data.workers}
    samples = Samples(data.source, records, {side: model.modalities[side]}, cache_bytes=0, **kept)
    samples.read_all([place for place, record in enumerate(records) if record.problem is None])
    samples.prepare(side, model.transforms[side])
    rejected: dict[int, str] = {}

    def batches() -> Iterator[tuple[Inputs, Tensor]]:
        for start in range(0, len(records), batch_size):
            indices = range(start, min(start + batch_size, len(records)))
            items = [item for index in indices for item in _items(model, samples, side, index, rejected)]
            if items:
                inputs = model.transforms[side].collate([item for _, item in items])
                yield inputs, torch.tensor([index for index, _ in items])

    made = model.embed_batches(side, batches(), partial(pack, vectors_only=vectors_only))
    if made is None:
        why = next(iter(rejected.values()), "none has a value")
        raise UserError(f"not one of {len(records)} candidates of {side!r} can be used: {why}")
    return Corpus(EmbeddedSplit(*made), records, [*rejected.values()], data.source)


def _items(model: Aligner, samples: Samples, side: str, place: int, rejected: dict[int, str]) -> list[tuple[int, Any]]:
    """Every alternative of one candidate; none where one of them cannot be used."""
    record, items = samples.records[place], []
    if record.problem is not None:
        rejected[place] = str(record.problem)
        return []
    for alternative in range(len(record.values.get(side, ()))):
        try:
            items.append((place, samples.item(place, side, model.transforms[side], alternative=alternative)))
        except BadSample as error:
            rejected[place] = str(error)
            return []
    return items


def _joined(candidates: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Candidates with what their rows know besides: the group, and the values of other sides."""
    rows = {record.id: record for record in records}
    return [_with(candidate, rows.get(candidate.id)) for candidate in candidates]


def _with(candidate: Record, row: Record | None) -> Record:
    if row is None:
        return candidate
    group = row.group if candidate.group is None else candidate.group
    return replace(candidate, group=group, values={**row.values, **candidate.values})
