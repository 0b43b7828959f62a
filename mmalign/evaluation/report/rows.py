"""Results by query or sample: columns of equal length, written as Parquet or CSV."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.safe_io.safe_writing import replaced

Columns = Mapping[str, Any]
"""Name -> a list or a NumPy array, `(rows,)`, all of one length."""

SUFFIXES = (".parquet", ".csv")
MAX_CELLS = 200_000_000
MAX_BYTES = 64 * 2**20
_RESULT = b"mmalign.result"


def rows_file(path: Path | str) -> Path:
    """The path, whose ending says the format.

    Raises:
        UserError: it ends neither in .parquet nor in .csv.
    """
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected the name of a file that ends in {' or '.join(SUFFIXES)}")
    return file


def write_rows(columns: Columns, path: Path | str, result: Mapping[str, Any]) -> None:
    """Write columns to a Parquet or CSV file, by its ending.

    Args:
        columns: The rows.
        path: The file.
        result: The result as JSON values; a Parquet file stores it beside the rows, for `mmalign.compare`.

    Raises:
        UserError: there are no columns, or the ending is neither .parquet nor .csv.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    file = rows_file(path)
    if not columns:
        raise UserError("this task has no results by query or sample")
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.replace_schema_metadata({_RESULT: json.dumps(result).encode()})
    with replaced(file) as partial:
        if file.suffix.lower() == ".csv":
            pa.csv.write_csv(table, str(partial))
        else:
            pa.parquet.write_table(table, str(partial))


def read_rows(path: Path | str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Read a Parquet file that `write_rows` has written: its columns, and the result stored beside them.

    Raises:
        UserError: the file is not Parquet, is too large, or has no result.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    what = "a Parquet file of mmalign evaluate --rows FILE.parquet"
    if Path(path).exists() and not Path(path).is_file():  # a pipe would not end
        raise UserError(f"{path}: expected {what}, got a folder or a pipe")
    try:
        file = pq.ParquetFile(str(path))
        if file.metadata.num_rows * file.metadata.num_columns > MAX_CELLS:
            raise UserError(f"{path}: expected at most {MAX_CELLS:,} cells, got {file.metadata.num_rows:,} rows")
        stored = (file.schema_arrow.metadata or {}).get(_RESULT)
        if stored is None:
            raise UserError(f"{path}: expected {what}, got one without a result; write it again with mmalign evaluate")
        if len(stored) > MAX_BYTES:
            raise UserError(f"{path}: expected at most {MAX_BYTES >> 20} MB of scores")
        result, columns = json.loads(stored), file.read().to_pydict()
    except (OSError, pa.ArrowException, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected {what}: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(result, dict) or not all(
        isinstance(result.get(key), kind) for key, kind in (("task", str), ("scores", dict), ("provenance", dict))
    ):
        raise UserError(f"{path}: expected {what}, got one with another result")
    return columns, result


def item_columns(embedded: EmbeddedSplit, records: Sequence[Record]) -> dict[str, Any]:
    """`id` and `group` of the record of each item, and `alternative`: its index among the record's values."""
    owners = [records[record] for record in embedded.record_indices.tolist()]
    return {
        "id": [owner.id for owner in owners],
        "alternative": embedded.alternative_indices.numpy(),
        "group": [owner.group for owner in owners],
    }
