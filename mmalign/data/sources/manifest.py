"""The source `manifest`: a table with columns of samples or file names."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmalign.data.files.open import open_store
from mmalign.data.files.store import MAX_BYTES, file_sha256
from mmalign.data.sources.base import RESERVED, Record, Rejected, Source, SourceConfig
from mmalign.data.sources.tables import Row, read_table
from mmalign.errors import UserError
from mmalign.registry import nearest

_BLANK = "expected a value in column {!r}, got an empty one at position {} of {}"


class ManifestSource(Source):
    """A CSV, TSV, JSON lines or Parquet table; files in a folder, tar or zip, by default the table's own folder.

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
        self._store = open_store(config.files or self.path.parent, max_bytes=max_bytes)

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        return self._store.fetch(name)

    def fingerprint(self) -> str:
        names = file_names(self._records, self.config)
        content = self._store.fingerprint(names) if names else ""
        return hashlib.sha256(f"{file_sha256(self.path)} {content}".encode()).hexdigest()


def max_file_bytes(config: SourceConfig, *known: str) -> int:
    """The option `max_file_mb` in bytes; every other option must be among `known`."""
    for name in config.options:
        if name not in (*known, "max_file_mb"):
            known_names = (*known, "max_file_mb")
            raise UserError(f"source {config.source!r} has no option {name!r}{nearest(name, known_names)}")
    value = config.options.get("max_file_mb")
    if value is None:
        return MAX_BYTES
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
    name = _single(row.cells.get(columns.get("id", ""))) or str(number)
    problem = Rejected(row.where, name, "", "", row.problem) if row.problem else None
    values: dict[str, tuple[Any, ...]] = {}
    for tower, column in columns.items():
        if tower in RESERVED:
            continue
        separator = config.separator if config.towers.get(tower, True) else None
        texts = alternatives(row.cells.get(column), separator)
        blank = next((index for index, value in enumerate(texts, start=1) if _is_blank(value)), 0)
        if blank:
            reason = _BLANK.format(column, blank, len(texts))
            problem = problem or Rejected(row.where, name, tower, "", reason, "missing value")
        elif texts:
            values[tower] = texts
    if "id" in columns and not row.problem and _single(row.cells.get(columns["id"])) is None:
        problem = problem or Rejected(row.where, name, "", "", f"expected an id in column {columns['id']!r}, got none")
    return Record(
        id=name,
        location=row.where,
        values=values,
        group=_single(row.cells.get(columns.get("group", ""))),
        labels=labels_of(row.cells.get(columns.get("label", "")), config.separator),
        split=_single(row.cells.get(columns.get("split", ""))) or ("" if "split" in columns else None),
        problem=problem,
    )


def with_targets(record: Record, cells: Mapping[str, Any]) -> Record:
    """The record with the numbers in these cells as targets; a cell without a number becomes the row's problem.

    Example:
        >>> with_targets(Record("1", "names.csv:2", {}), {"age": "61", "weight": ""}).targets
        {'age': 61.0}
    """
    targets, problem = {}, record.problem
    for name, cell in cells.items():
        if cell is None or _is_blank(cell):
            continue
        try:
            targets[name] = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            targets[name] = math.nan
        if not math.isfinite(targets[name]):
            reason = f"expected a finite number in column {name!r}, got {str(cell)[:40]!r}"
            problem = problem or Rejected(record.location, record.id, "", "", reason)
            del targets[name]
    return replace(record, targets=targets, problem=problem)


def alternatives(cell: Any, separator: str | None = None) -> tuple[Any, ...]:
    """The values in a cell: none, one, or several (a list of strings, or pieces between separators).

    Example:
        >>> alternatives("a dog | an animal", " | ")
        ('a dog', 'an animal')
        >>> alternatives([0.5, 1.0])[0].shape
        (2,)
    """
    if cell is None or _is_blank(cell):
        return ()
    if isinstance(cell, str) and separator:
        return tuple(piece.strip() for piece in cell.split(separator) if piece.strip())
    if isinstance(cell, dict) and set(cell) <= {"bytes", "path"}:  # how the Hugging Face hub stores images and audio
        return tuple(value for value in (cell.get("bytes"), cell.get("path")) if value)[:1]
    if isinstance(cell, list | tuple):
        if any(isinstance(item, str | bytes | dict | np.ndarray) for item in cell):
            return tuple(value for item in cell for value in (alternatives(item) or ("",)))
        return (_array(cell),) if cell else ()
    return (cell,)


def labels_of(cell: Any, separator: str | None = None) -> tuple[str, ...]:
    """The classes in a cell: none, one, or several (a list, or pieces between separators).

    Example:
        >>> labels_of("dog;cat", ";"), labels_of([3, 4]), labels_of(None)
        (('dog', 'cat'), ('3', '4'), ())
    """
    if isinstance(cell, str) and separator:
        cell = cell.split(separator)
    if isinstance(cell, list | tuple | np.ndarray):
        return tuple(label for item in cell if (label := _single(item)) is not None)
    label = _single(cell)
    return () if label is None else (label,)


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
            raise UserError(f"{where}: no column {name!r}{nearest(name, columns)}; mend --data.options.targets")
    return list(names)


def _array(cell: Sequence[Any]) -> Any:
    try:
        with np.errstate(over="ignore"):  # the modality rejects infinities
            return np.asarray(cell, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        return list(cell)  # not numbers, or ragged: the modality rejects it


def _is_blank(value: Any) -> bool:
    return isinstance(value, str | bytes) and not value.strip()


def _single(cell: Any) -> str | None:
    if cell is None or isinstance(cell, list | dict):
        return None
    return str(cell).strip() or None
