"""Results by query or sample: columns of equal length, written as Parquet or CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmalign.data.sources.base import Record
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.safe_writing import replaced

Columns = Mapping[str, Any]
"""Name -> a list or a NumPy array, `(rows,)`, all of one length."""

SUFFIXES = (".parquet", ".csv")


def rows_file(path: Path | str) -> Path:
    """The path, whose ending says the format.

    Raises:
        UserError: it ends neither in .parquet nor in .csv.
    """
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected the name of a file that ends in {' or '.join(SUFFIXES)}")
    return file


def write_rows(columns: Columns, path: Path | str) -> None:
    """Write columns to a Parquet or CSV file, by its ending.

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
    with replaced(file) as partial:
        if file.suffix.lower() == ".csv":
            pa.csv.write_csv(table, str(partial))
        else:
            pa.parquet.write_table(table, str(partial))


def item_columns(embedded: EmbeddedSplit, records: Sequence[Record]) -> dict[str, Any]:
    """`id` of the record of each item, and `alternative`: its index among the record's values."""
    return {
        "id": [records[record].id for record in embedded.record_indices.tolist()],
        "alternative": embedded.alternative_indices.numpy(),
    }
