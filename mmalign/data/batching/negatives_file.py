"""The file of mined hard negatives: one row per record and negative, as `mmalign mine` writes and training reads it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.data.sources.tables import read_table
from mmalign.errors import UserError
from mmalign.safe_io.safe_writing import replaced

COLUMNS = ("id", "negative", "rank", "score", "positive_score", "surface")
"""Record; record that is its hard negative; rank among the candidates, from 0; score of the two; score of the record's
own pair; surface similarity, empty if it was not asked for."""

SUFFIXES = (".parquet", ".csv")


def negatives_file(path: Path | str) -> Path:
    """The path, whose ending defines the format.

    Raises:
        UserError: it ends neither in .parquet nor in .csv.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: expected the name of a file that ends in {' or '.join(SUFFIXES)}")
    return Path(path)


def write_negatives(columns: Mapping[str, Any], path: Path | str) -> None:
    """Write the columns `COLUMNS` as Parquet or CSV, by the ending of the path.

    Args:
        columns: Name -> values, `(rows,)`.
        path: The file.

    Raises:
        UserError: the ending is neither .parquet nor .csv.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    file = negatives_file(path)
    kinds = (pa.string(), pa.string(), pa.int64(), pa.float64(), pa.float64(), pa.float64())
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in zip(COLUMNS, kinds, strict=True)})
    with replaced(file) as partial:
        write = pa.csv.write_csv if file.suffix.lower() == ".csv" else pa.parquet.write_table
        write(table, str(partial))


def read_negatives(path: Path | str, ids: Sequence[str], count: int) -> NDArray[np.int64]:
    """The hard negatives of some records; of the file only the columns `id` and `negative` are needed.

    Args:
        path: A table (CSV, TSV, JSON lines, Parquet); the negatives of a record are in the order of its rows, hardest
            first.
        ids: The records, `n`. Rows that name other records are ignored: the file may be of a larger data set.
        count: Maximum number of negatives of each record.

    Returns:
        Indices into `ids`, `(n, count)`, -1 where there are fewer.

    Raises:
        UserError: there is no such file, it lacks a column, a row cannot be read, or no row names two of the records.
    """
    table = read_table(Path(path).expanduser())
    for column in COLUMNS[:2]:
        if column not in table.columns:
            came = ", ".join(table.columns[:20])
            raise UserError(f"{path}: expected the columns id and negative, as of mmalign mine, got {came}")
    index = {record: row for row, record in enumerate(ids)}
    negatives: list[list[int]] = [[] for _ in ids]
    rows = 0
    for row in table.rows(COLUMNS[:2]):
        if row.problem:
            raise UserError(f"{row.where}: {row.problem}")
        rows += 1
        record, negative = (index.get(str(row.cells.get(column))) for column in COLUMNS[:2])
        if record is not None and negative is not None and record != negative and len(negatives[record]) < count:
            negatives[record].append(negative)
    if rows and not any(negatives):
        raise UserError(f"{path}: none of its {rows} rows names two of the {len(ids)} training records by their id")
    indices = np.full((len(ids), count), -1, dtype=np.int64)
    for record, found in enumerate(negatives):
        indices[record, : len(found)] = found
    return indices
