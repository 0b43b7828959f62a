"""Tables as rows of cells: CSV, TSV, JSON lines, Parquet. An unreadable row does not affect others."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mmalign import registry
from mmalign.errors import UserError


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        where: `names.tsv:17`.
        cells: Column -> value; a column that the row lacks is absent or None.
        problem: Why the row cannot be read, "" if it can.
    """

    where: str
    cells: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Table:
    """Column names, and the rows with the requested columns."""

    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]


def read_table(path: Path) -> Table:
    """Open a table by its suffix.

    Raises:
        UserError: there is no such file, its format is unknown, or the whole file is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a manifest, got {'a folder' if path.is_dir() else 'no such file'}")
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": _csv, ".tsv": _tsv, ".tab": _tsv, ".txt": _tsv,
        ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".pq": _parquet,
    }  # fmt: skip
    suffix = path.suffix.lower()
    others = registry.names("tables")
    if suffix not in readers and suffix[1:] not in others:
        known = ", ".join([*readers, *(f".{name}" for name in others)])
        raise UserError(f"{path}: expected a manifest that ends in {known}, got {path.suffix or 'no suffix'!r}")
    table: Table = readers[suffix](path) if suffix in readers else registry.load("tables", suffix[1:])(path)
    return table


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: expected UTF-8, got UTF-16; save it as UTF-8")
    # A byte that is no UTF-8 becomes a lone surrogate, so that only the rows with one are rejected.
    return data.decode("utf-8-sig", "surrogateescape")


def _bad_byte(cell: str) -> str:
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"expected UTF-8, got the byte 0x{ord(cell[error.start]) & 0xFF:02x} after {cell[: error.start][-20:]!r}"
    return ""


def _csv(path: Path) -> Table:
    def lines() -> Iterator[tuple[int, list[str], str]]:
        reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
        for start in count():
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):  # it consumed all following rows
                    raise UserError(f"{path.name}:{line}: a quote that is opened there is never closed") from error
                if start == 0:
                    raise UserError(f"{path.name}:{line}: {error}") from error
                yield line, [], f"expected a CSV row, got one with an error: {error}"
                continue
            if cells:
                yield line, cells, ""

    return _delimited(path, lines)


def _tsv(path: Path) -> Table:
    # TSV as registered (text/tab-separated-values) has no quotes; a cell that a spreadsheet quoted is unquoted.
    def lines() -> Iterator[tuple[int, list[str], str]]:
        for number, line in enumerate(_text(path).split("\n"), start=1):
            if line.strip("\r"):
                yield number, [_unquoted(cell) for cell in line.rstrip("\r").split("\t")], ""

    return _delimited(path, lines)


def _unquoted(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', ""):
        return cell[1:-1].replace('""', '"')
    return cell


def _delimited(path: Path, lines: Callable[[], Iterator[tuple[int, list[str], str]]]) -> Table:
    _, header, _ = next(lines(), (0, [], ""))
    if not any(header):
        raise UserError(f"{path}: expected a header line with the names of the columns, got an empty file")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{path}: the column {twice[0]!r} is there twice; rename one")
    for problem in filter(None, map(_bad_byte, header)):
        raise UserError(f"{path.name}:1: {problem}; save it as UTF-8")

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        indices = [(name, header.index(name)) for name in wanted]
        content = lines()
        next(content)
        for number, cells, problem in content:
            where = f"{path.name}:{number}"
            if not problem and len(cells) != len(header):
                problem = f"expected {len(header)} cells as the header has, got {len(cells)}"
            values = {} if problem else {name: cells[index] for name, index in indices}
            problem = problem or next(filter(None, map(_bad_byte, values.values())), "")
            yield Row(where, {} if problem else values, problem)

    return Table(header, rows)


def _jsonl(path: Path) -> Table:
    parsed, columns = [], {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where, problem = f"{path.name}:{number}", _bad_byte(line)
        try:
            cells = {} if problem else json.loads(line)
        except (ValueError, RecursionError) as error:
            cells, problem = {}, f"expected a JSON object, got one with an error: {error}"
        if not isinstance(cells, dict):
            cells, problem = {}, f"expected a JSON object, got a {type(cells).__name__}"
        columns.update(dict.fromkeys(cells))
        parsed.append(Row(where, cells, problem))
    if not columns:
        raise UserError(
            f"{path}: expected a JSON object a line, got " + (parsed[0].problem if parsed else "an empty file")
        )

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        for row in parsed:
            yield Row(row.where, {name: row.cells.get(name) for name in wanted}, row.problem)

    return Table(list(columns), rows)


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = list(file.schema_arrow.names)
        file.close()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: expected Parquet, got: {str(error).splitlines()[0]}") from error

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            with pq.ParquetFile(path) as table:
                for batch in table.iter_batches(columns=list(dict.fromkeys(wanted))):
                    values = [plain_values(batch.column(name)) for name in batch.schema.names]
                    for cells in zip(*values, strict=True):
                        number += 1
                        yield Row(f"{path.name}:{number}", dict(zip(batch.schema.names, cells, strict=True)))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged after row {number}: {str(error).splitlines()[0]}") from error

    return Table(columns, rows)


def plain_values(column: Any) -> list[Any]:
    """An Arrow column as Python values; a list of numbers becomes a NumPy array, a null in it NaN."""
    import pyarrow as pa

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return column.to_pylist()  # type: ignore[no-any-return]
    return [None if item is None else np.asarray(item.to_numpy(zero_copy_only=False)) for item in _arrays(column)]


def _arrays(column: Any) -> Iterator[Any]:
    for scalar in column:
        yield scalar.values if scalar.is_valid else None
