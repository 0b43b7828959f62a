"""Read a vector or a bag from any supported source."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.local_file import demand_file, is_file
from modalities.common.reading.npy import array_from, mapped_array

Vector = NDArray[np.float32]

MAX_WIDTH = 1 << 20
"""Maximum size of a vector: 4 MB."""

WANTED = f"one row of 1..{MAX_WIDTH} finite numbers"


def read_vector(source: Any) -> Vector:
    """Read a vector.

    Args:
        source: A list, an array, a tensor, the path of a `.npy` file that holds one row, `matrix.npy#17` for row 17
            (from 0) of a matrix, or the bytes of such a one-row file.

    Returns:
        `(width,)` float32.

    Raises:
        BadSample: it is missing, has another shape, holds something else than finite numbers, or needs pickle.

    Example:
        >>> from modalities.vector.read import read_vector
        >>> read_vector([1, 2.5])
        array([1. , 2.5], dtype=float32)
    """
    if isinstance(source, str | PathLike):
        return _from_path(str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return _check(array_from(bytes(source), f"{len(source)} bytes"), f"{len(source)} bytes")
    if hasattr(source, "detach"):
        return _check(source.detach().cpu().float().numpy(), "tensor")
    if isinstance(source, np.ndarray | list | tuple):
        try:
            return _check(np.asarray(source), type(source).__name__)
        except ValueError as error:
            if isinstance(error, BadSample):
                raise
            raise BadSample(type(source).__name__, WANTED, "rows of unequal length") from error
    raise BadSample("vector", "a list, an array or a .npy file", f"a {type(source).__name__}")


def read_bag(source: Any) -> NDArray[np.float32]:
    """Read several vectors of one width.

    Args:
        source: A list of rows, a matrix, a tensor, the path of a `.npy` file that holds a matrix, or its bytes. One row
            is a bag of one.

    Returns:
        `(members, width)` float32.

    Raises:
        BadSample: as `read_vector`, or there is no row.

    Example:
        >>> from modalities.vector.read import read_bag
        >>> read_bag([[1, 2], [3, 4]]).shape
        (2, 2)
    """
    if isinstance(source, str | PathLike):
        name = str(source)
        demand_file(Path(name), "a .npy file", name=name)
        values = mapped_array(Path(name), name)
    elif isinstance(source, bytes | bytearray | memoryview):
        name = f"{len(source)} bytes"
        values = array_from(bytes(source), name)
    elif hasattr(source, "detach"):
        name, values = "tensor", source.detach().cpu().float().numpy()
    elif isinstance(source, np.ndarray | list | tuple):
        name = type(source).__name__
        try:
            values = np.asarray(source)
        except ValueError as error:
            raise BadSample(name, "rows of one width", "rows of unequal length") from error
    else:
        raise BadSample("bag", "rows of numbers or a .npy file", f"a {type(source).__name__}")
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size or values.size > MAX_WIDTH:
        raise BadSample(name, f"rows of one width, at most {MAX_WIDTH} numbers", f"shape {values.shape}")
    return _check(values.reshape(-1), name).reshape(values.shape)


def _from_path(name: str) -> Vector:
    path, mark, row = name.rpartition("#")
    # A file name may contain the sign: it marks a row only if a number follows.
    if not mark or not row.isdecimal() or is_file(Path(name)):
        path, row = name, ""
    demand_file(Path(path), "a .npy file", name=name)
    if not row:
        return _check(mapped_array(Path(path), name), name)
    matrix = mapped_array(Path(path), name)
    if matrix.ndim != 2:
        raise BadSample(name, "a matrix, to take a row of", f"shape {matrix.shape}")
    if int(row) >= len(matrix):
        raise BadSample(name, f"a row in 0..{len(matrix) - 1}", f"row {row}")
    return _check(matrix[int(row)], name)


def _check(values: NDArray[Any], source: str) -> Vector:
    if values.ndim == 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 1 or not 1 <= values.size <= MAX_WIDTH:
        raise BadSample(source, WANTED, f"shape {values.shape}")
    if not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise BadSample(source, WANTED, f"{values.dtype} values")
    with np.errstate(all="ignore"):  # values beyond float32 become infinite and are rejected
        row = np.array(values, dtype=np.float32)
    finite = np.isfinite(row)
    if not finite.all():
        raise BadSample(source, WANTED, f"{values[~finite][0]} at place {int(np.argmin(finite))}")
    return row
