"""The kinds of source that a modality reads: a path, the bytes of a file, or a mapping of arrays."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from mmalign.errors import BadSample
from modalities.common.reading.local_file import demand_name

T = TypeVar("T")


def read_any(
    source: Any,
    *,
    kind: str,
    expected: str,
    path: Callable[[Path], T],
    data: Callable[[bytes, str], T],
    mapping: Callable[[Mapping[Any, Any], str], T],
    most: int,
) -> tuple[str, T]:
    """Read a source by its kind; returns its name for messages, and what the reader returns.

    Args:
        source: A path, bytes, or a mapping.
        kind: Name of the modality, for messages.
        expected: What the modality reads, for the message about anything else.
        path: Reads a path.
        data: Reads the bytes of a file, with a name for messages.
        mapping: Reads a mapping, with a name for messages.
        most: Maximum number of bytes that are given as such.

    Raises:
        BadSample: it is something else, or there are too many bytes.

    Example:
        >>> def size(data, name):
        ...     return len(data)
        >>> kinds = {"kind": "clip", "expected": "a path, bytes, or a mapping", "path": str, "data": size, "most": 8}
        >>> read_any(b"1234", mapping=size, **kinds)
        ('4 bytes', 4)
        >>> read_any({"frames": 0}, mapping=size, **kinds)
        ('clip', 1)
    """
    if isinstance(source, str | PathLike):
        demand_name(Path(source), expected)
        return str(source), path(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"{len(source)} bytes"
        if len(source) > most:
            raise BadSample(name, f"at most {most} bytes", name)
        return name, data(bytes(source), name)
    if isinstance(source, Mapping):
        return kind, mapping(source, kind)
    raise BadSample(kind, expected, f"a {type(source).__name__}")


SIGNATURES: Mapping[bytes, str] = {
    b"GIF8": "a GIF picture",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"RIFF": "a RIFF file (WAV, AVI or WebP)",
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a ZIP archive or NPZ file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"\x93NUMPY": "an NPY array",
    b"\x89HDF": "an HDF5 file",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x1aE\xdf\xa3": "a Matroska video",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"<": "an XML or HTML file",
    b"{": "a JSON file",
}
"""First bytes -> kind of file."""


def beginning(data: bytes) -> str:
    r"""The kind of a file by its first bytes, for a message; these can be a patient's, and are never quoted.

    Example:
        >>> beginning(b"GIF89a..."), beginning(b"Name: A. B."), beginning(b"\xcc\x00\x99"), beginning(b"")
        ('a GIF picture', 'a text file', 'a file of an unknown kind', 'an empty file')
    """
    if not data:
        return "an empty file"
    if data[:1] in b"\x02\x08" and data[1:2] == b"\0" and data[3:4] == b"\0":
        return "DICOM without its preamble"
    known = next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), None)
    if known is not None:
        return known
    control = set(range(32)) - set(b"\t\n\f\r")
    return "a file of an unknown kind" if control & set(data[:512]) or data[:1] >= b"\x80" else "a text file"
