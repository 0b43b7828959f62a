"""Embedding tables as files: Parquet, or Arrow files that are mapped into memory when they are read."""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from mmalign.embedding.stored_vectors import PRECISIONS, StoredVectors
from mmalign.errors import UserError
from mmalign.safe_io.safe_writing import replaced

T = TypeVar("T")

COLUMNS = ("id", "tower", "alternative", "location", "value", "label", "vector")
_OLD_COLUMNS = {"side", "place", "row"}
_VECTORS = b"mmalign.vectors"
_UNCERTAINTY = "uncertainty"


class Column(Sequence[T], Generic[T]):
    """A column of an Arrow table as a sequence; a value becomes a Python object when it is asked for."""

    def __init__(self, column: Any, convert: Callable[[Any], T]) -> None:
        self._column = column
        self._convert = convert

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._convert(value) for value in self._column[index].to_pylist()]
        return self._convert(self._column[index].as_py())

    def __iter__(self) -> Iterator[T]:
        for start in range(0, len(self), 2**14):
            yield from self[start : start + 2**14]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def read_columns(path: Path | str) -> tuple[Any, Any]:
    """The whole Arrow table of a file, and its columns but `vector`, checked and of the types of `COLUMNS`.

    Raises:
        UserError: see `EmbeddingTable.read`.
    """
    table = _opened(path)
    if _OLD_COLUMNS.issubset(table.column_names):
        raise UserError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, got the columns side, place and row "
            "of an older mmalign; write the table again with mmalign embed"
        )
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: expected columns {', '.join(COLUMNS)}; without {', '.join(missing)}")
    return table, _typed(path, table)


def write_columns(
    path: Path | str,
    named: Sequence[Sequence[Any]],
    vectors: StoredVectors,
    uncertainties: Sequence[float] | None,
    metadata: dict[bytes, bytes],
) -> None:
    """Write a file: the columns of `COLUMNS` but `vector`, then the vectors and, if there are any, uncertainties."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = vectors.codes.numpy()
    width = codes.shape[1]
    # 64-bit offsets: 2**31 numbers are only four million vectors of 512.
    offsets = pa.array(np.arange(0, codes.size + 1, width, dtype=np.int64))
    columns = pa.table([list(column) for column in named], schema=_schema()).append_column(
        "vector", pa.LargeListArray.from_arrays(offsets, pa.array(codes.reshape(-1)))
    )
    if uncertainties is not None:
        columns = columns.append_column(_UNCERTAINTY, pa.array(list(uncertainties), pa.float32()))
    if vectors.center is not None and vectors.step is not None:
        stated = {"precision": vectors.precision, "dim": vectors.dim}
        stated |= {"center": vectors.center.tolist(), "step": vectors.step.tolist()}
        metadata = metadata | {_VECTORS: json.dumps(stated).encode()}
    columns = columns.replace_schema_metadata(metadata)
    with replaced(path) as partial:
        if Path(path).suffix == ".arrow":
            # One batch, uncompressed: its numbers lie in the file as they do in memory.
            with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, columns.schema) as writer:
                writer.write_table(columns.combine_chunks())
        else:
            pq.write_table(columns, str(partial), row_group_size=max(1, 2**22 // width))


def _opened(path: Path | str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe would not end
            raise UserError(f"{path}: expected a Parquet or Arrow file from mmalign embed, got a folder or a pipe")
        with open(path, "rb") as file:
            magic = file.read(6)
        if magic == b"ARROW1":
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            table.validate(full=True)  # offsets that point outside of the file, among others
        else:
            table = pq.read_table(str(path))
        _ = table.column_names  # decoded here
        return table
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = "got no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"{path}: expected a Parquet or Arrow file from mmalign embed: {reason}") from error


def _typed(path: Path | str, table: Any) -> Any:
    import pyarrow as pa

    try:
        named = table.select(COLUMNS[:-1]).cast(_schema())
        named.validate(full=True)  # texts that are not UTF-8, among others
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{path}: expected the column types of mmalign embed: {error}") from error
    for name in ("id", "alternative", "location"):
        if named.column(name).null_count:
            raise UserError(f"{path}: expected a value in every row of column {name}")
    return named


def _schema() -> Any:
    import pyarrow as pa

    kinds = (pa.string(), pa.string(), pa.int32(), pa.string(), pa.string(), pa.list_(pa.string()))
    return pa.schema(list(zip(COLUMNS, kinds, strict=False)))


def read_uncertainties(path: Path | str, table: Any) -> list[float] | None:
    """The uncertainty of each row; None if the file has no such column."""
    import pyarrow as pa

    if _UNCERTAINTY not in table.column_names:
        return None
    column = table.column(_UNCERTAINTY)
    values: list[float] = column.to_pylist() if pa.types.is_floating(column.type) and not column.null_count else []
    if len(values) != len(table) or not all(map(math.isfinite, values)):
        raise UserError(f"{path}: expected a finite number in every row of column {_UNCERTAINTY}")
    return values


def read_vectors(path: Path | str, table: Any) -> StoredVectors:
    """The vectors: floats, or the codes of the precision that the file's metadata state."""
    import pyarrow as pa

    column, stated = table.column("vector"), (table.schema.metadata or {}).get(_VECTORS)
    codes = _codes(path, column)
    width = codes.shape[1]
    if stated is None:
        if not codes.is_floating_point():
            raise UserError(f"{path}: expected vectors of one length of floating-point numbers, got {column.type}")
        precision = "float16" if pa.types.is_float16(column.type.value_type) else "float32"
        vectors = StoredVectors(codes if precision == "float16" else codes.float(), width, precision)
    else:
        vectors = _reduced(path, codes, stated)
    if not vectors.is_finite():
        raise UserError(f"{path}: expected finite vectors, got NaN or infinity")
    return vectors


def _reduced(path: Path | str, codes: Tensor, stated: bytes) -> StoredVectors:
    try:
        values = json.loads(stated)
        precision, dim = values["precision"], values["dim"]
        center, step = (torch.tensor(values[name], dtype=torch.float32) for name in ("center", "step"))
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: expected precision, dim, center and step in the metadata mmalign.vectors") from error
    size = dim if type(dim) is int else 0
    kinds = {"int8": (torch.int8, size), "binary": (torch.uint8, -(-size // 8))}
    if kinds.get(str(precision)) != (codes.dtype, codes.shape[1]) or center.shape != (size,):
        raise UserError(
            f"{path}: expected codes of {' or '.join(PRECISIONS[2:])} as the metadata mmalign.vectors state them, got "
            f"{codes.shape[1]} numbers of {str(codes.dtype).removeprefix('torch.')} a row"
        )
    if step.shape != center.shape:
        raise UserError(f"{path}: expected as many steps as centers in the metadata mmalign.vectors")
    return StoredVectors(codes, size, precision, center, step)


def _codes(path: Path | str, column: Any) -> Tensor:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or column.null_count:
        raise UserError(f"{path}: expected a list of numbers in every row of column vector, got {column.type}")
    kind = column.type.value_type
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    parts = [chunk.flatten() for chunk in column.chunks]
    is_number = pa.types.is_floating(kind) or kind in (pa.int8(), pa.uint8())
    if len(lengths) != 1 or not lengths[0] or not is_number or any(part.null_count for part in parts):
        raise UserError(f"{path}: expected vectors of one length, got {column.type} of lengths {lengths[:5]}")
    arrays = [part.to_numpy(zero_copy_only=False) for part in parts]
    values = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    with warnings.catch_warnings():
        # Arrow's buffers are read-only; this tensor is only read.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(values).view(-1, lengths[0])
