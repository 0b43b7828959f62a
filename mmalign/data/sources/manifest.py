"""The source `manifest`: a table with columns of samples or file names, or a folder of files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmalign.data.files.open import open_store
from mmalign.data.files.store import MAX_BYTES, file_sha256
from mmalign.data.sources.base import RESERVED, Record, Rejected, Source, SourceConfig
from mmalign.data.sources.cells import alternatives, is_blank, labels_of, name_of, with_targets
from mmalign.data.sources.rows import Row
from mmalign.data.sources.tables import read_table
from mmalign.errors import MissingFile, UserError
from mmalign.registry import nearest

_BLANK = "expected a value in column {!r}, got an empty one at position {} of {}"


class ManifestSource(Source):
    """A CSV, TSV, JSON lines or Parquet table; files in a folder, tar or zip, by default the table's own folder.

    The table may also be a folder of files: in class folders, in folders of splits, beside text files of the same name,
    or with a table `metadata.csv`; it then has the columns `file`, `text`, `label` and `split`.

    Options: `max_file_mb`, the maximum size of a file (default 1024); `targets`, a list of columns of numbers, read
    into `Record.targets` under the column's name (empty cell = unknown).

    Raises:
        UserError: there is no such table, it lacks a named column, or an option is unknown.
    """

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        if not config.manifest:
            raise UserError("source 'manifest' needs a table: --data.manifest names.csv (or .tsv, .jsonl, .parquet)")
        self.path = Path(config.manifest).expanduser()
        max_bytes = max_file_bytes(config, "targets")
        table = read_table(self.path)
        columns = named_columns(config, table.columns, str(self.path))
        targets = _target_columns(config, table.columns, str(self.path))
        rows = table.rows(list(dict.fromkeys([*columns.values(), *targets])))
        self._records = [
            with_targets(record_of(row, number, columns, config), {name: row.cells.get(name) for name in targets})
            for number, row in enumerate(rows, start=1)
        ]
        if not self._records:
            raise UserError(f"{self.path}: expected rows below the header, got none")
        folder = self.path if self.path.is_dir() else self.path.parent
        self._store = open_store(config.files or folder, max_bytes=max_bytes)

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        try:
            return self._store.fetch(name)
        except MissingFile:
            for suffix in self.config.bare_suffixes:
                with suppress(MissingFile):
                    return self._store.fetch(name + suffix)
            raise

    def fingerprint(self) -> str:
        names = file_names(self._records, self.config)
        content = self._store.fingerprint(names) if names else ""
        return hashlib.sha256(f"{self._table_sha256()} {content}".encode()).hexdigest()

    def _table_sha256(self) -> str:
        if not self.path.is_dir():
            return file_sha256(self.path)
        rows = [[row.id, row.labels, row.split, row.group, *map(str, row.values.values())] for row in self._records]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def max_file_bytes(config: SourceConfig, *known: str) -> int:
    """The option `max_file_mb` in bytes, by default what the towers' readers accept; other options must be known."""
    for name in config.options:
        if name not in (*known, "max_file_mb"):
            known_names = (*known, "max_file_mb")
            raise UserError(f"source {config.source!r} has no option {name!r}{nearest(name, known_names)}")
    value = config.options.get("max_file_mb")
    if value is None:
        return min(MAX_BYTES, config.max_file_bytes)
    if not isinstance(value, int | float) or not value > 0:
        raise UserError(f"--data.options.max_file_mb: expected a positive number, got {value!r}")
    return int(value * 1e6)


def named_columns(
    config: SourceConfig, columns: Sequence[str], where: str, defaults: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Tower or reserved name -> column of a table that has `columns`.

    Args:
        config: Its `columns` are those that the user names.
        columns: The columns that there are.
        where: The table, for messages.
        defaults: Tower -> column, where the user names none.

    Raises:
        UserError: a named column is not there, or no tower has a column.
    """
    named = dict(config.columns or defaults or {})
    for tower, column in named.items():
        if column not in columns:
            raise UserError(
                f"{where}: no column {column!r}{nearest(column, columns)}; set --data.columns.{tower} to one of them"
            )
    if not set(named) - set(RESERVED):
        towers = " and ".join(f"--data.columns.{tower} COLUMN" for tower in config.towers or ["TOWER"])
        raise UserError(f"{where}: which columns hold the samples? set {towers} (columns: {', '.join(columns)})")
    return named | {name: name for name in RESERVED if name not in named and name in columns}


def record_of(row: Row, number: int, columns: dict[str, str], config: SourceConfig) -> Record:
    """A table's row as a record; its faults are stored in `problem`."""
    name = name_of(row.cells.get(columns.get("id", ""))) or str(number)
    problem = Rejected(row.where, name, "", "", row.problem) if row.problem else None
    values: dict[str, tuple[Any, ...]] = {}
    for tower, column in columns.items():
        if tower in RESERVED:
            continue
        separator = config.separator if config.separable.get(tower, True) else None
        texts = alternatives(row.cells.get(column), separator)
        blank = next((index for index, value in enumerate(texts, start=1) if is_blank(value)), 0)
        if blank:
            reason = _BLANK.format(column, blank, len(texts))
            problem = problem or Rejected(row.where, name, tower, "", reason, "missing value")
        elif texts:
            values[tower] = texts
    if "id" in columns and not row.problem and name_of(row.cells.get(columns["id"])) is None:
        problem = problem or Rejected(row.where, name, "", "", f"expected an id in column {columns['id']!r}, got none")
    return Record(
        id=name,
        location=row.where,
        values=values,
        group=name_of(row.cells.get(columns.get("group", ""))),
        labels=labels_of(row.cells.get(columns.get("label", "")), config.separator),
        split=name_of(row.cells.get(columns.get("split", ""))) or ("" if "split" in columns else None),
        problem=problem,
    )


def file_names(records: Sequence[Record], config: SourceConfig) -> list[str]:
    """The files that records name."""
    return sorted(
        {
            value
            for record in records
            for tower, values in record.values.items()
            for value in values
            if isinstance(value, str) and config.names_file(tower, value)
        }
    )


def _target_columns(config: SourceConfig, columns: Sequence[str], where: str) -> list[str]:
    targets = config.options.get("targets") or []
    names = [targets] if isinstance(targets, str) else targets
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"--data.options.targets: expected a list of columns, got {targets!r}")
    for name in names:
        if name not in columns:
            raise UserError(f"{where}: no column {name!r}{nearest(name, columns)}; correct --data.options.targets")
    return list(names)
