"""The kinds of source that a modality reads: a path, the bytes of a file, or a mapping of arrays."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from mmalign.errors import BadSample

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
        return str(source), path(Path(source))
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"{len(source)} bytes"
        if len(source) > most:
            raise BadSample(name, f"at most {most} bytes", name)
        return name, data(bytes(source), name)
    if isinstance(source, Mapping):
        return kind, mapping(source, kind)
    raise BadSample(kind, expected, f"a {type(source).__name__}")


def beginning(data: bytes) -> str:
    """The first bytes of a file of no known format, for a message.

    Example:
        >>> beginning(b"GIF89a..."), beginning(b"")
        ("a file that begins with b'GIF89a...'", 'an empty file')
    """
    if not data:
        return "an empty file"
    if data[:1] in b"\x02\x08" and data[1:2] == b"\0" and data[3:4] == b"\0":  # its first element is not quoted
        return "DICOM without its preamble"
    return f"a file that begins with {data[:12]!r}"
