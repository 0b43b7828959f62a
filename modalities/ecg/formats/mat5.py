"""The matrix `val` of a MATLAB file of version 5, parsed here because sizes that such a file states can lie.

Format: "MAT-File Format", MathWorks, chapter 1. Every size is checked against the bytes that are there, and compressed
elements unpack up to a limit.
"""

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample

WANTED = "a MATLAB file with a matrix 'val' of numbers"

_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)  # array classes: double, single, and integers of 8 to 64 bits
_COMPLEX = 0x08


def read_matrix(data: bytes, source: str, *, most: int) -> NDArray[np.generic]:
    """The matrix `val`, `(rows, columns)`.

    Args:
        data: The file's bytes.
        source: Origin of the file, for messages.
        most: Largest number of values.

    Raises:
        BadSample: it is damaged, of another version, too large, or has no such matrix.

    Example:
        >>> import io
        >>> from scipy.io import savemat
        >>> stream = io.BytesIO()
        >>> savemat(stream, {"val": np.array([[1, 2, 3]])}, do_compression=True)
        >>> read_matrix(stream.getvalue(), "rec.mat", most=10)
        array([[1, 2, 3]])
    """
    if b"MATLAB 7.3" in data[:20]:
        raise BadSample(source, "a MATLAB file of version 4 or 5", "version 7.3; save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    try:
        if order is None:
            raise ValueError("no byte order")
        for kind, content in _elements(data, 128, order):
            matrix = content
            if kind == _COMPRESSED:
                matrix = _unpacked(content, most * 8 + 4096)
                kind, matrix = next(_elements(matrix, 0, order))
            if kind == _MATRIX and (values := _values(matrix, order, most, source)) is not None:
                return values
    except BadSample:
        raise
    except (ValueError, StopIteration, zlib.error) as error:
        raise BadSample(source, WANTED, "a damaged one") from error
    raise BadSample(source, WANTED, "one without it")


def _values(content: bytes, order: str, most: int, source: str) -> NDArray[np.generic] | None:
    """The values of a matrix element; None if it has another name."""
    parts = _elements(content, 0, order)
    (_, flags), (_, shape), (_, name) = next(parts), next(parts), next(parts)
    if name != b"val":
        return None
    word = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    sizes = [int(size) for size in np.frombuffer(shape, f"{order}i4")]
    if word & 0xFF not in _NUMERIC or (word >> 8) & _COMPLEX or len(sizes) != 2:
        raise BadSample(source, WANTED, "another kind of array")
    if min(sizes) < 1 or sizes[0] * sizes[1] > most:
        raise BadSample(source, f"1..{most} values", f"shape {tuple(sizes)}")
    kind, stored = next(parts)
    values = np.frombuffer(stored, f"{order}{_TYPES.get(kind, 'V1')}")
    if kind not in _TYPES or values.size != sizes[0] * sizes[1]:
        raise ValueError("values do not fit the shape")
    return values.astype(values.dtype.newbyteorder("=")).reshape(sizes, order="F")


def _elements(data: bytes, start: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element from an offset."""
    while start + 8 <= len(data):
        kind, size = (int(word) for word in np.frombuffer(data, f"{order}u4", 2, start))
        if small := kind >> 16:  # up to four bytes of content stand in the tag itself
            kind, size, first, following = kind & 0xFFFF, small, start + 4, start + 8
        else:
            first = start + 8
            # Compressed elements are not padded to eight bytes.
            following = first + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if first + size > len(data) or (small and size > 4):
            raise ValueError("an element is longer than the file")
        yield kind, data[first : first + size]
        start = following


def _unpacked(content: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(content, limit)
    if not unpacker.eof:
        raise ValueError("truncated, or more than the limit")
    return data
