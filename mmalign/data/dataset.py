"""A data set: the records of a source, validated and divided into splits; decoded once, when a split is asked for."""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign import distributed, registry
from mmalign.data.sample_cache import Samples
from mmalign.data.sources.base import RESERVED, Record, Rejected, Source, SourceConfig
from mmalign.data.split import Split
from mmalign.data.splits import STANDARD, assign
from mmalign.data.validation import Vetted, present_towers, vet
from mmalign.errors import UserError
from mmalign.modality import Modality

_LOG = logging.getLogger("mmalign")
_POSITIVES = ("record", "content", "group")


class Dataset:
    """Paired samples from any source. `prepare` reads the records; `split` gives the rows of one split as a value.

    Args:
        source: Registered name of the source: manifest, digits, datasets, webdataset.
        manifest: The table (CSV, TSV, JSONL, Parquet), saved data set, or shards.
        files: Folder, tar or zip that holds the files which the manifest names; default: the manifest's folder.
        columns: Tower -> column, such as --data.columns.image file; also id, group, label, split (default: the
            columns of these names).
        separator: What stands between several captions (or labels) in one cell.
        options: Further arguments of the source.
        validation: Share held out for validation where the source has no split column; never through a group.
        test: Share held out for testing where the source has no split column.
        split_seed: Which rows these are.
        positives: Which rows are positives of each other: record (only its own pair), content (rows that share a
            sentence or a file too), group (rows of one group too).
        hard_negatives: A tower, such as molecule: records whose samples of it are similar are drawn into one batch; its
            modality must define `neighbours`. Default: batches are drawn at random.
        hard_negative_fraction: Fraction of the records whose nearest ones follow them into the batch, in (0, 1]; each
            record still comes once per epoch.
        hard_negative_group_size: Maximum number of records that are placed together, at least 2.
        batch_size: Rows a step and process.
        drop_last: Leave out the last, smaller batch of an epoch.
        workers: Processes that prepare batches, and that fill the cache; 0 = the training process itself.
        cache_gb: Gigabytes of decoded samples to keep in memory.
        cache: Folder that keeps what takes long to read (molecules) for the next start, in files named by content and
            versions; may be deleted between two runs. Default: $MMALIGN_CACHE; without it nothing is kept.
        max_rejected: Fraction of all rows of the source that may be rejected, in [0, 1]; more raise an error. Rows
            without one of the towers are left out and do not count.
        seed: Order, augmentation, and which of several captions is drawn.

    Raises:
        UserError: a value out of its range, or an unknown source.
    """

    def __init__(
        self,
        source: str = "manifest",
        manifest: str | None = None,
        files: str | None = None,
        *,
        columns: dict[str, str] | None = None,
        separator: str | None = None,
        options: dict[str, Any] | None = None,
        validation: float = 0.1,
        test: float = 0.0,
        split_seed: int = 0,
        positives: str = "content",
        hard_negatives: str | None = None,
        hard_negative_fraction: float = 0.5,
        hard_negative_group_size: int = 4,
        batch_size: int = 128,
        drop_last: bool = True,
        workers: int = 0,
        cache_gb: float = 2.0,
        cache: str | None = None,
        max_rejected: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, share in (("validation", validation), ("test", test)):
            _demand(0 <= share < 1, name, "a share in [0, 1)", share)
        _demand(validation + test < 1, "validation + --data.test", "a sum below 1", validation + test)
        _demand(positives in _POSITIVES, "positives", f"one of {', '.join(_POSITIVES)}", positives)
        _demand(0 < hard_negative_fraction <= 1, "hard_negative_fraction", "a share in (0, 1]", hard_negative_fraction)
        _demand(hard_negative_group_size >= 2, "hard_negative_group_size", "at least 2", hard_negative_group_size)
        _demand(batch_size >= 1, "batch_size", "at least 1", batch_size)
        _demand(workers >= 0, "workers", "0 or more", workers)
        _demand(cache_gb >= 0, "cache_gb", "0 or more", cache_gb)
        _demand(0 <= max_rejected <= 1, "max_rejected", "a share in [0, 1]", max_rejected)
        _demand(seed >= 0, "seed", "0 or more", seed)
        self.source_config = SourceConfig(source, manifest, files, dict(columns or {}), separator, dict(options or {}))
        cache = cache or os.environ.get("MMALIGN_CACHE")
        self.cache = Path(cache).expanduser() if cache else None
        self.validation, self.test, self.split_seed = validation, test, split_seed
        self.positives, self.batch_size, self.drop_last, self.workers = positives, batch_size, drop_last, workers
        self.hard_negatives, self.hard_negative_fraction, self.hard_negative_group_size = (
            hard_negatives,
            hard_negative_fraction,
            hard_negative_group_size,
        )
        self.cache_gb, self.max_rejected, self.seed = cache_gb, max_rejected, seed
        self.modalities: dict[str, Modality] = {}
        self.source: Source
        self.store: Samples
        self.all_records: list[Record] = []
        self.splits: list[str] = []
        self.present: list[str] = []
        self._vetted = Vetted()
        self._scanned: set[str] = set()
        self._told = (0, 0)
        self._fingerprint = ""

    @property
    def towers(self) -> list[str]:
        """The towers that the columns name (the source's own where the user named none)."""
        return [tower for tower in self._columns() if tower not in RESERVED]

    @property
    def rejected(self) -> list[Rejected]:
        """Rows that were found unusable so far, in the order of the source."""
        return [self._vetted.rejected[index] for index in sorted(self._vetted.rejected)]

    @property
    def incomplete(self) -> list[Rejected]:
        """Rows that are left out for want of a tower, in the order of the source."""
        return list(self._vetted.incomplete.values())

    def open(self, modalities: Mapping[str, Modality]) -> None:
        """List the records, split and vet them; decode nothing. `prepare` and `check` begin with this.

        Raises:
            UserError: the source cannot be opened, or a column belongs to no tower.
        """
        if dict(modalities) == self.modalities:
            return
        columns = self._columns()
        unknown = [tower for tower in columns if tower not in modalities and tower not in RESERVED]
        absent = [tower for tower in modalities if tower not in columns]
        if unknown and absent:
            raise UserError(f"--data.columns.{unknown[0]}: no such tower{registry.nearest(unknown[0], modalities)}")
        columns = {tower: column for tower, column in columns.items() if tower in modalities or tower in RESERVED}
        towers = {tower: modality.value_is_sample for tower, modality in modalities.items()}
        config = dataclasses.replace(self.source_config, columns=columns, towers=towers)
        source = registry.load("sources", config.source)(config)
        if not isinstance(source, Source):
            raise UserError(f"source {config.source!r} is a {type(source).__name__}, not a Source")
        self.source, self.modalities = source, dict(modalities)
        self.all_records = list(source.records())
        self.splits = assign(self.all_records, towers, validation=self.validation, test=self.test, seed=self.split_seed)
        self.present = present_towers(self.all_records, list(modalities), columns)
        self._vetted = vet(self.all_records, self.present, columns)
        decoded = {tower: modality for tower, modality in self.modalities.items() if tower in self.present}
        kept: dict[str, Any] = {"folder": self.cache, "workers": self.workers}
        self.store = Samples(source, self.all_records, decoded, cache_bytes=self.cache_gb * 1e9, **kept)
        self._scanned, self._told, self._fingerprint = set(), (0, 0), ""

    def prepare(
        self, modalities: Mapping[str, Modality], out: Path | None = None, *, splits: Sequence[str] | None = None
    ) -> None:
        """Open the source and decode every sample once; bad rows are rejected, with the reason, in `rejected.jsonl`.

        Args:
            modalities: Tower -> how it is decoded.
            out: Folder for `rejected.jsonl`.
            splits: Which rows; default: all. Calling again decodes only what is new.

        Raises:
            UserError: what `open` raises, or more than `max_rejected` of all rows are bad.
        """
        self.open(modalities)
        wanted = set(splits) - {"all"} if splits is not None and "all" not in splits else set(self.splits)
        self.scan(wanted)
        if out is not None and distributed.rank() == 0:
            lines = [json.dumps(dataclasses.asdict(rejected), ensure_ascii=False) + "\n" for rejected in self.rejected]
            (out / "rejected.jsonl").write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        bad, rows = len(self.rejected), len(self.all_records)
        listed = f", listed in {out / 'rejected.jsonl'}" if out is not None else ""
        if bad > self.max_rejected * rows + 1e-9:  # of the whole table, however few of its splits are asked for
            reasons = "; ".join(str(rejected) for rejected in self.rejected[:3])
            raise UserError(
                f"{bad} of {rows} rows cannot be used, more than --data.max_rejected {self.max_rejected:g}{listed}"
                f": {reasons}{' ...' if bad > 3 else ''}; mend them, or raise the limit"
            )
        told, self._told = self._told, (bad, len(self.incomplete))
        if bad > told[0] and distributed.rank() == 0:
            _LOG.warning("%d of %d rows rejected%s; the first: %s", bad, rows, listed, self.rejected[0])
        if len(self.incomplete) > told[1] and distributed.rank() == 0:
            _LOG.warning(
                "%d of %d rows lack a tower and are left out; the first: %s",
                len(self.incomplete), rows, self.incomplete[0],
            )  # fmt: skip

    def scan(self, splits: set[str]) -> dict[int, Rejected]:
        """Decode what is new of these splits, whatever is bad; the rows so far that cannot be used, by their index."""
        self._vetted.rejected.update(self.store.scan(self._places(splits - self._scanned)))
        self._scanned |= splits
        return self._vetted.rejected | self._vetted.incomplete

    def split(self, name: str) -> Split:
        """The good rows of a split as a value; decodes those that are not decoded yet.

        Args:
            name: train, validation, test, another name of the source, or "all" = every good row.

        Raises:
            UserError: there is no such split, or too many of its rows are bad.
        """
        indices = self._ready(name)
        return Split(
            name, tuple(indices), tuple(self.all_records[index] for index in indices), tuple(self.present), self.store
        )

    def records(self, split: str) -> list[Record]:
        """The good rows of a split, "all" = every good row.

        Raises:
            UserError: there is no such split.
        """
        return [self.all_records[index] for index in self._ready(split)]

    def fingerprint(self) -> str:
        """A hash of the source's content, for provenance."""
        if not self._fingerprint:
            self._fingerprint = self.source.fingerprint()
        return self._fingerprint

    def _columns(self) -> dict[str, str]:
        given = self.source_config.columns
        if set(given) - set(RESERVED):
            return dict(given)
        default = getattr(registry.load("sources", self.source_config.source), "default_columns", {})
        return {**default, **given}

    def _places(self, splits: set[str]) -> list[int]:
        unusable = self._vetted.rejected.keys() | self._vetted.incomplete.keys()
        return [index for index, split in enumerate(self.splits) if split in splits and index not in unusable]

    def _ready(self, split: str) -> list[int]:
        if not self.modalities:
            raise RuntimeError("call prepare(modalities) before asking for records or loaders")
        known = {*STANDARD, *self.splits}
        if split != "all" and split not in known:
            raise UserError(f"no split {split!r}{registry.nearest(split, [*known, 'all'])}")
        wanted = set(self.splits) if split == "all" else {split}
        if wanted - self._scanned:
            self.prepare(self.modalities, splits=sorted(wanted))
        return self._places(wanted)


def _demand(holds: bool, name: str, expected: str, came: object) -> None:
    if not holds:
        raise UserError(f"--data.{name}: expected {expected}, got {came}")
