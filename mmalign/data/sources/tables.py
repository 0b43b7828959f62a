"""Tables as rows of cells: CSV, TSV, JSON lines, Parquet, a folder. An unreadable row does not affect others."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmalign import registry
from mmalign.data.sources.delimited import read_csv, read_tsv
from mmalign.data.sources.folder_table import read_folder
from mmalign.data.sources.rows import Row, Table, bad_byte, text_of
from mmalign.errors import UserError, first_line


def read_table(path: Path) -> Table:
    """Open a table by its suffix.

    Raises:
        UserError: there is no such file, its format is unknown, or the whole file is damaged.
    """
    if path.is_dir():
        return read_folder(path, read_table)
    if not path.is_file():
        raise UserError(f"{path}: expected a manifest, got no such file")
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": read_csv, ".tsv": read_tsv, ".tab": read_tsv, ".txt": read_tsv,
        ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet, ".pq": _parquet,
    }  # fmt: skip
    suffix = path.suffix.lower()
    others = registry.names("tables")
    if suffix not in readers and suffix[1:] not in others:
        known = ", ".join([*readers, *(f".{name}" for name in others)])
        raise UserError(f"{path}: expected a manifest that ends in {known}, got {path.suffix or 'no suffix'!r}")
    table: Table = readers[suffix](path) if suffix in readers else registry.load("tables", suffix[1:])(path)
    return table


def _jsonl(path: Path) -> Table:
    parsed, columns = [], {}
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        where, problem = f"{path.name}:{number}", bad_byte(line)
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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected Parquet, got: {first_line(error)}") from error
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise UserError(f"{path}: the column {twice[0]!r} occurs twice; rename one")

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        number = 0
        try:
            with pq.ParquetFile(path) as table:
                for batch in table.iter_batches(columns=list(dict.fromkeys(wanted))):
                    names, problems = batch.schema.names, dict[int, str]()
                    values = [plain_values(batch.column(name), problems) for name in names]
                    for index, cells in enumerate(zip(*values, strict=True)):
                        number += 1
                        problem = problems.get(index, "")
                        yield Row(f"{path.name}:{number}", dict(zip(names, cells, strict=True)), problem)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: damaged after row {number}: {first_line(error)}") from error

    return Table(columns, rows)


def plain_values(column: Any, problems: dict[int, str]) -> list[Any]:
    """An Arrow column as Python values; a list of numbers becomes a NumPy array, a null in it NaN.

    Args:
        column: The column.
        problems: Gets the index of each row whose text is not UTF-8, with the reason; the value is None.
    """
    import pyarrow as pa

    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        try:
            return column.to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            return [_text(scalar, index, problems) for index, scalar in enumerate(column)]
    return [None if item is None else np.asarray(item.to_numpy(zero_copy_only=False)) for item in _arrays(column)]


def _text(scalar: Any, index: int, problems: dict[int, str]) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        problems[index] = f"expected UTF-8, got the byte 0x{error.object[error.start]:02x}"
        return None


def _arrays(column: Any) -> Iterator[Any]:
    for scalar in column:
        yield scalar.values if scalar.is_valid else None
