"""Common parts of sources of published data sets: the unpacked folder, its tables, its fingerprint."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.data.files.store import FileStore
from mmalign.data.sources.base import RESERVED, Record, SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest


def folder_of(path: str | None, source: str, flag: str, tables: Sequence[str]) -> Path:
    """The folder of an unpacked release with these tables.

    Raises:
        UserError: no folder is given, or a table is missing.
    """
    if not path:
        raise UserError(f"source {source!r} needs the unpacked data set: {flag} FOLDER")
    folder = Path(path).expanduser()
    folder = folder.parent if folder.name in tables else folder
    for name in tables:
        if table(folder, name) is None:
            raise UserError(f"{folder}: expected the unpacked data set of source {source!r}, got no {name}")
    return folder


def table(folder: Path, name: str) -> Path | None:
    """A table of the release, plain or gzipped; None if missing."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV table: `record_list.csv:17`, and the columns by name, stripped; "" where a row is too short.

    Raises:
        UserError: a column is missing, or the table is damaged.
    """
    open_text = gzip.open if path.suffix == ".gz" else open
    try:
        with open_text(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.reader(stream)
            head = next(reader, [])
            for name in columns:
                if name not in head:
                    came = ", ".join(head)[:300] or "an empty file"
                    raise UserError(f"{path}: expected a column {name!r}, got {came}")
            indices = [(name, head.index(name)) for name in (*columns, *optional) if name in head]
            for cells in reader:
                if cells:
                    values = {name: cells[index].strip() if index < len(cells) else "" for name, index in indices}
                    yield f"{path.name}:{reader.line_num}", values
    except (csv.Error, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: expected a CSV table, got a damaged one: {error}") from error


def check_options(config: SourceConfig, known: Iterable[str]) -> None:
    """Reject unknown options of a source."""
    known = tuple(known)
    for name in config.options:
        if name not in known:
            raise UserError(f"source {config.source!r} has no option {name!r}{nearest(name, known)}")


def number_of(cell: str, low: float, high: float) -> float | None:
    """The number in a cell; None unless it is within the bounds.

    Example:
        >>> number_of("55.0", 0, 100), number_of(">55", 0, 100), number_of("nan", 0, 100)
        (55.0, None, None)
    """
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if low <= value <= high else None  # False for NaN


def tower_values(cells: Mapping[str, tuple[Any, ...]], columns: Mapping[str, str]) -> dict[str, tuple[Any, ...]]:
    """Tower -> values, for the towers whose column has any."""
    return {tower: cells[column] for tower, column in columns.items() if tower not in RESERVED and cells.get(column)}


def towers_of(column: str, columns: Mapping[str, str]) -> list[str]:
    """The towers that read a column.

    Example:
        >>> towers_of("ecg", {"signal": "ecg", "text": "report", "id": "ecg"})
        ['signal']
    """
    return [tower for tower, name in columns.items() if name == column and tower not in RESERVED]


def fingerprint_of(records: Iterable[Record], stores: Mapping[str, FileStore], columns: Iterable[str]) -> str:
    """A hash of all records and of the sizes of the files that they name.

    The files, hundreds of gigabytes, are not read: their content is identified by the release's version.

    Args:
        records: All rows.
        stores: Prefix of file names -> store of the files.
        columns: The towers whose values are file names.
    """
    digest, towers = hashlib.sha256(), set(columns)
    for record in records:
        known = (record.id, sorted(record.values.items()), record.group, record.labels, record.split)
        digest.update(repr((known, sorted(record.targets.items()))).encode("utf-8", "backslashreplace"))
        for tower in towers & set(record.values):
            for name in record.values[tower]:
                digest.update(str(file_size(name, stores)).encode())
    return digest.hexdigest()


def file_size(name: str, stores: Mapping[str, FileStore]) -> int:
    """The size of a file in bytes; -1 if it is missing.

    Args:
        name: Its name.
        stores: Prefix of file names -> store of the files.
    """
    start = next(start for start in stores if name.startswith(start))
    try:
        content = stores[start].fetch(name.removeprefix(start))
    except BadSample:
        return -1  # a missing file changes the fingerprint too
    return content.stat().st_size if isinstance(content, Path) else len(content)
