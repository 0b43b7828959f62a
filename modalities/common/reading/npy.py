"""Arrays in NPY and NPZ files, read without pickle and without Python's parser.

NumPy parses the header of an array with `ast.literal_eval`, which raises a `SystemError` at random when several threads
parse at once (CPython issue 106905). Samples are read in threads, so the header, of three fixed fields, is read here.
"""

import io
import re
import sys
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample

MAX_HEADER = 1 << 16
"""Maximum length of a header in bytes; the header of a plain array has about a hundred."""

MAX_SMALL = 1 << 16
"""Largest array of a few numbers or words beside the large one, in bytes."""

WANTED = "an NPY array of numbers, without pickle"

_MAGIC = b"\x93NUMPY"
_DTYPE = re.compile(r"'descr'\s*:\s*'([<>|=]?[biufcSUM?]\d{0,9}(?:\[\w{1,4}\])?)'")
_ORDER = re.compile(r"'fortran_order'\s*:\s*(True|False)")
_SHAPE = re.compile(r"'shape'\s*:\s*\(((?:\s*\d{1,18}L?\s*,?)*)\s*\)")


class Header(NamedTuple):
    """What an NPY file states before its values.

    Args:
        dtype: Type of the values.
        fortran: Whether the first axis varies fastest.
        shape: Size of each axis.
        start: Offset of the first value in bytes.
    """

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        count = self.dtype.itemsize
        for size in self.shape:
            count *= size
        return count


def array_from(data: bytes, name: object) -> NDArray[Any]:
    """The array of an NPY file.

    Args:
        data: The file's bytes; those after the array are not read.
        name: What a message calls it.

    Raises:
        BadSample: it is damaged, holds Python objects or records, or states more values than it holds.

    Example:
        >>> stream = io.BytesIO()
        >>> np.save(stream, np.arange(3, dtype=np.int16))
        >>> array_from(stream.getvalue(), "three.npy")
        array([0, 1, 2], dtype=int16)
    """
    header = read_header(data[: MAX_HEADER + 16], len(data), name)
    if not header.nbytes:
        return np.empty(header.shape, header.dtype)
    flat = np.frombuffer(data, header.dtype, header.nbytes // header.dtype.itemsize, header.start)
    if header.dtype.kind == "U" and int(flat.view(header.dtype.str[0] + "u4").max(initial=0)) > sys.maxunicode:
        raise BadSample(name, WANTED, "one with text that is not Unicode")
    return flat.reshape(header.shape, order="F" if header.fortran else "C").copy()


def mapped_array(path: Path, name: object) -> NDArray[Any]:
    """The array of an NPY file, memory-mapped and read-only: rows are read when they are used.

    Raises:
        BadSample: as `array_from`.
    """
    with path.open("rb") as stream:
        header = read_header(stream.read(MAX_HEADER + 16), path.stat().st_size, name)
    order: Literal["C", "F"] = "F" if header.fortran else "C"
    if not header.nbytes:
        return np.empty(header.shape, header.dtype)
    if not header.shape:
        return array_from(path.read_bytes(), name)
    return np.memmap(path, header.dtype, mode="r", offset=header.start, shape=header.shape, order=order)


def archive_arrays(
    data: bytes, names: Collection[str], name: object, *, most: int, small: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """Arrays of an NPZ archive; those of other names are not read.

    Args:
        data: The archive's bytes.
        names: Names of the wanted arrays; one that is not there is left out.
        name: What a message calls the archive.
        most: Largest size of one array in bytes.
        small: Those of `names` that may have `MAX_SMALL` bytes only, such as a rate.

    Raises:
        BadSample: the archive is damaged or encrypted, an array is too large, or as `array_from`.

    Example:
        >>> stream = io.BytesIO()
        >>> np.savez(stream, frames=np.zeros(2), other=np.ones(1))
        >>> archive_arrays(stream.getvalue(), ["frames", "rate"], "clip.npz", most=1 << 20)
        {'frames': array([0., 0.])}
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = set(archive.namelist())
            for key in names:
                if f"{key}.npy" not in members:
                    continue
                size, limit = archive.getinfo(f"{key}.npy").file_size, min(most, MAX_SMALL) if key in small else most
                if size > limit + MAX_HEADER:
                    raise BadSample(name, f"at most {limit} bytes in the array {key!r}", f"{size} bytes")
                with archive.open(f"{key}.npy") as stream:
                    arrays[key] = array_from(stream.read(size), name)  # at most the stated size
    except BadSample:
        raise
    except Exception as error:  # zipfile raises arbitrary exceptions for damaged archives
        raise BadSample(name, "a readable NPZ file", f"a damaged one ({type(error).__name__})") from error
    return arrays


def read_header(head: bytes, size: int, name: object) -> Header:
    """What an NPY file states, checked against the file's size before any memory is allocated.

    Args:
        head: The first bytes of the file, at least the header.
        size: Size of the whole file in bytes.
        name: What a message calls it.

    Raises:
        BadSample: as `array_from`.
    """
    if not head.startswith(_MAGIC) or len(head) < 12 or head[6] not in (1, 2, 3):
        other = "an NPZ archive of several" if head.startswith(b"PK") else "a file of another kind"
        raise BadSample(name, WANTED, other if head else "an empty file")
    size_bytes = 2 if head[6] == 1 else 4  # bytes of the header's length: two in version 1
    length = int.from_bytes(head[8 : 8 + size_bytes], "little")
    start = 8 + size_bytes + length
    text = head[8 + size_bytes : start].decode("latin-1")
    dtype, order, shape = _DTYPE.search(text), _ORDER.search(text), _SHAPE.search(text)
    if length > MAX_HEADER or start > len(head) or order is None or shape is None:
        raise BadSample(name, WANTED, "one with a damaged header")
    if dtype is None:
        raise BadSample(name, WANTED, "one of Python objects, records or damaged types")
    try:
        kind = np.dtype(dtype[1])
        sizes = tuple(int(number) for number in re.findall(r"\d+", shape[1]))
    except (TypeError, ValueError) as error:
        raise BadSample(name, WANTED, "one with a damaged header") from error
    if len(sizes) > 16:
        raise BadSample(name, "an array of at most 16 axes", f"{len(sizes)} axes")
    header = Header(kind, order[1] == "True", sizes, start)
    if header.nbytes > size - start:
        raise BadSample(name, f"{header.nbytes} bytes of values, as its header states", f"{size - start} bytes")
    return header
