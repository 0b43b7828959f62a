"""A data set as a value: the records of a source, validated, divided into splits, and read."""

import dataclasses
import json
import logging
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mmalign import distributed, registry
from mmalign.data.batching.batches import positive_groups
from mmalign.data.caching.sample_cache import Samples
from mmalign.data.config import DataConfig
from mmalign.data.sources.base import RESERVED, Record, Rejected, Source
from mmalign.data.sources.record_stream import open_stream
from mmalign.data.split import Split
from mmalign.data.splits import STANDARD, assign
from mmalign.data.streaming.head import StreamHead
from mmalign.data.validation import present_towers, vet, with_names
from mmalign.errors import UserError
from mmalign.modality import Modality, Transform

_LOG = logging.getLogger("mmalign")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Paired samples from any source; `Dataset.open` makes one and nothing in it changes.

    Args:
        config: Where the samples come from.
        modalities: Tower -> its modality, of those that are asked for.
        source: Lists the records and fetches their files.
        records: All records of the source.
        splits: The split of each record.
        towers: The towers that are asked for and that the data has.
        unusable: Record index -> why it is rejected, as far as it is known.
        missing: Record index -> the tower that it lacks; such records are left out and are no fault.
        read_splits: Splits whose samples have been decoded once.
        store: The samples of all records.
        transforms: Tower -> transform whose features are cached on reading, instead of the samples.
        training: Whether these are, for the split train, the features for training.

    Example:
        >>> import mmalign
        >>> text = mmalign.modality_of("text", mmalign.TowerConfig())
        >>> data = Dataset.open(DataConfig("digits"), {"text": text}, splits=["validation"])
        >>> len(data.split("validation")), len(data.rejected)
        (359, 0)
    """

    config: DataConfig
    modalities: Mapping[str, Modality]
    source: Source
    records: tuple[Record, ...]
    splits: tuple[str, ...]
    towers: tuple[str, ...]
    unusable: Mapping[int, Rejected]
    missing: Mapping[int, Rejected]
    read_splits: frozenset[str]
    store: Samples
    transforms: Mapping[str, Transform] = dataclasses.field(default_factory=dict)
    training: bool = False

    @classmethod
    def open(
        cls,
        config: DataConfig,
        modalities: Mapping[str, Modality],
        *,
        splits: Collection[str] | None = None,
        others: Mapping[str, Modality] = MappingProxyType({}),
        out: Path | None = None,
        accept_all: bool = False,
        transforms: Mapping[str, Transform] | None = None,
        training: bool = False,
    ) -> "Dataset":
        """List the records, split and check them, and decode every sample of some splits once.

        Args:
            config: Where the samples come from.
            modalities: Tower -> how its samples are decoded.
            splits: The splits to read; default: all.
            others: Further towers of the data, which are not read. The split of a record without group depends on the
                file names of all towers that it was trained with.
            out: Folder for `rejected.jsonl`, one rejected record per line.
            accept_all: Accept any number of rejected records in silence.
            transforms: Tower -> transform whose features are cached on reading, instead of the samples.
            training: Whether these are, for the split train, the features for training.

        Raises:
            UserError: the source cannot be opened, a column belongs to no tower, there is no such split, or more than
                `max_rejected` of all records are rejected.
        """
        columns = config.named_columns
        unknown = [tower for tower in columns if tower not in modalities and tower not in RESERVED]
        absent = [tower for tower in modalities if tower not in columns]
        if unknown and absent:
            raise UserError(f"--data.columns.{unknown[0]}: no such tower{registry.nearest(unknown[0], modalities)}")
        known = {**others, **modalities}
        columns = {tower: column for tower, column in columns.items() if tower in known or tower in RESERVED}
        strings = {tower: modality.value_is_sample for tower, modality in known.items()}
        try:
            kind, settings = registry.load("sources", config.source), config.source_config(columns, known)
            head = config.stream_head
            source = (
                StreamHead(open_stream(kind, settings), head, config.split_seed) if config.stream else kind(settings)
            )
        except OSError as error:  # of the whole source: a name that is too long, no permission
            name = str(error.filename or config.manifest)
            raise UserError(f"{name[:200]}: {error.strerror or error}") from error
        if not isinstance(source, Source):
            raise UserError(f"source {config.source!r} is a {type(source).__name__}, not a Source")
        listed = tuple(map(with_names, source.records()))
        assigned = assign(listed, strings, validation=config.validation, test=config.test, seed=config.split_seed)
        records = tuple(_without(record, others) for record in listed) if others else listed
        towers = present_towers(records, list(modalities), columns)
        vetted = vet(records, towers, columns)
        store = Samples(
            source,
            records,
            {tower: modality for tower, modality in modalities.items() if tower in towers},
            cache_bytes=config.cache_gb * 1e9,
            folder=config.cache_folder,
            workers=config.workers,
        )
        data = cls(
            config,
            dict(modalities),
            source,
            records,
            tuple(assigned),
            tuple(towers),
            vetted.rejected,
            vetted.incomplete,
            frozenset(),
            store,
            # Hard negatives are found among samples.
            {t: transform for t, transform in (transforms or {}).items() if t in towers and t != config.hard_negatives},
            training,
        )
        data = data._scanned(("all",) if splits is None else splits)
        if accept_all:
            return data
        data._demand_few_rejected(out)
        if data.missing:
            _warn(f"{len(data.missing)} of {len(records)} rows lack a tower and are left out", data.incomplete[0])
        return data

    def read(self, *splits: str) -> "Dataset":
        """The same data with the samples of further splits decoded once.

        Raises:
            UserError: there is no such split, or more than `max_rejected` of all records are rejected.
        """
        data = self._scanned(splits)
        if len(data.unusable) > len(self.unusable):
            data._demand_few_rejected(None)
        return data

    def split(self, name: str) -> Split:
        """The usable records of a split.

        Args:
            name: train, validation, test, another name of the source, or "all".

        Raises:
            UserError: there is no such split, or it has not been read.
        """
        if unread := (self._named([name]) & set(self.splits)) - self.read_splits:
            raise UserError(
                f"split {name!r}: its samples have not been read; open the data with splits={sorted(unread)} or use "
                "Dataset.read"
            )
        indices = self._usable(self._named([name]))
        return Split(name, indices, tuple(self.records[index] for index in indices), self.towers, self.store)

    def has(self, split: str) -> bool:
        """Whether a split has a usable record, as far as it is known.

        Raises:
            UserError: there is no such split.
        """
        return bool(self._usable(self._named([split])))

    @property
    def rejected(self) -> list[Rejected]:
        """The records that cannot be used, in the order of the source."""
        return [self.unusable[index] for index in sorted(self.unusable)]

    @property
    def incomplete(self) -> list[Rejected]:
        """The records that are left out for want of a tower, in the order of the source."""
        return [self.missing[index] for index in sorted(self.missing)]

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """One integer per record; records of equal integers are positives of each other."""
        return positive_groups(self.records, self.config.positives)

    def fingerprint(self) -> str:
        """A hash of the source's content, for provenance."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self.source.fingerprint()

    def _named(self, splits: Collection[str]) -> frozenset[str]:
        known = {*STANDARD, *self.splits}
        for name in splits:
            if name != "all" and name not in known:
                raise UserError(f"no split {name!r}{registry.nearest(name, [*known, 'all'])}")
        return frozenset(self.splits) if "all" in splits else frozenset(splits)

    def _usable(self, splits: Collection[str]) -> tuple[int, ...]:
        left_out = self.unusable.keys() | self.missing.keys()
        return tuple(i for i, split in enumerate(self.splits) if split in splits and i not in left_out)

    def _scanned(self, splits: Collection[str]) -> "Dataset":
        new = (self._named(splits) & set(self.splits)) - self.read_splits
        if not new:
            return self
        training = frozenset(self._usable(new & {"train"})) if self.training else ()
        unusable = {**self.unusable, **self.store.scan(self._usable(new), self.transforms, training)}
        return dataclasses.replace(self, unusable=unusable, read_splits=self.read_splits | new)

    def _demand_few_rejected(self, out: Path | None) -> None:
        bad, rows = self.rejected, len(self.records)
        if out is not None and distributed.is_first():
            lines = [json.dumps(dataclasses.asdict(rejected), ensure_ascii=False) + "\n" for rejected in bad]
            (out / "rejected.jsonl").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        listed = f", listed in {out / 'rejected.jsonl'}" if out is not None else ""
        limit = self.config.max_rejected
        if len(bad) > limit * rows + 1e-9:  # of the whole table, however few of its splits are read
            reasons = "; ".join(str(rejected) for rejected in bad[:3])
            raise UserError(
                f"{len(bad)} of {rows} rows cannot be used, more than --data.max_rejected {limit:g}{listed}"
                f": {reasons}{' ...' if len(bad) > 3 else ''}; correct them, or raise the limit"
            )
        if bad:
            _warn(f"{len(bad)} of {rows} rows rejected{listed}", bad[0])


def _without(record: Record, towers: Collection[str]) -> Record:
    """The record as of a source that does not list some towers."""
    problem = None if record.problem is not None and record.problem.tower in towers else record.problem
    values = {tower: value for tower, value in record.values.items() if tower not in towers}
    return dataclasses.replace(record, values=values, problem=problem)


def _warn(what: str, first: Rejected) -> None:
    if distributed.is_first():
        _LOG.warning("%s; the first: %s", what, first)
