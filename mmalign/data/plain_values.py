"""Samples and features as bytes: arrays, numbers, strings, containers and stated dataclasses; no pickle."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CHECKSUM = 16
"""Bytes of the checksum in front."""


def to_bytes(value: Any, types: Sequence[type] = ()) -> bytes | None:
    """Encode a value.

    Args:
        value: None, a bool, number, string, bytes, array, or a list, tuple, dictionary (keys are strings) or
            dataclass of such values.
        types: The dataclasses that may occur.

    Returns:
        The bytes, with a checksum; None if the value contains anything else.

    Example:
        >>> from_bytes(to_bytes({"points": np.arange(3), "up": "z"}))
        {'points': array([0, 1, 2]), 'up': 'z'}
        >>> to_bytes(object()) is None
        True
    """
    blobs = bytearray()
    try:
        tree = _node(value, {kind: kind.__qualname__ for kind in types}, blobs)
        head = json.dumps(tree, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    body = b"".join([len(head).to_bytes(8, "little"), head, blobs])
    return hashlib.blake2b(body, digest_size=CHECKSUM).digest() + body


def from_bytes(data: bytes, types: Sequence[type] = ()) -> Any:
    """Decode what `to_bytes` returned.

    Args:
        data: The bytes.
        types: The same dataclasses.

    Raises:
        ValueError: the bytes are damaged, or contain another dataclass.
    """
    body = memoryview(data)[CHECKSUM:]
    if hashlib.blake2b(body, digest_size=CHECKSUM).digest() != data[:CHECKSUM]:
        raise ValueError("damaged bytes: the checksum differs")
    start = 8 + int.from_bytes(body[:8], "little")
    return _value(json.loads(bytes(body[8:start])), {kind.__qualname__: kind for kind in types}, body[start:])


def _node(value: Any, types: Mapping[type, str], blobs: bytearray) -> list[Any]:
    """`[kind, ...]`; the bytes of arrays are appended to `blobs`."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return ["plain", value]
    if isinstance(value, bytes):
        return ["bytes", *_place(value, blobs)]
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject or array.dtype.names is not None:
            raise TypeError
        kind = "scalar" if isinstance(value, np.generic) else "array"
        return [kind, array.dtype.str, list(array.shape), *_place(array.tobytes(), blobs)]
    if type(value) in types:
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return ["class", types[type(value)], {name: _node(one, types, blobs) for name, one in fields.items()}]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_node(one, types, blobs) for one in value]]
    if type(value) is dict and all(type(key) is str for key in value):
        return ["dict", {key: _node(one, types, blobs) for key, one in value.items()}]
    raise TypeError


def _place(data: bytes, blobs: bytearray) -> tuple[int, int]:
    """Offset and length of the bytes among all blobs."""
    offset = len(blobs)
    blobs += data
    return offset, len(data)


def _value(node: list[Any], types: Mapping[str, type], blobs: memoryview) -> Any:
    kind, *rest = node
    if kind == "plain":
        return rest[0]
    if kind == "bytes":
        return bytes(blobs[rest[0] : rest[0] + rest[1]])
    if kind in ("array", "scalar"):
        dtype, shape, offset, length = rest
        array = np.frombuffer(blobs[offset : offset + length], dtype).reshape(shape).copy()  # a copy can be written to
        return array[()] if kind == "scalar" else array
    if kind == "list":
        return [_value(one, types, blobs) for one in rest[0]]
    if kind == "tuple":
        return tuple(_value(one, types, blobs) for one in rest[0])
    if kind == "dict":
        return {key: _value(one, types, blobs) for key, one in rest[0].items()}
    if kind == "class" and rest[0] in types:
        return types[rest[0]](**{name: _value(one, types, blobs) for name, one in rest[1].items()})
    raise ValueError(f"an unknown kind of value: {kind!r}")
