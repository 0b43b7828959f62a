"""Immutable memory-mapped files of variable-length arrays, verified by checksum on opening."""

import hashlib
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.safe_io.safe_writing import replaced

MAX_HEADER = 1 << 26
ALIGNED = 64
CHUNK = 500  # rows per unit of work of a process
_PROCESSES_FROM = 2000  # minimum number of rows for several processes

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


class Section(NamedTuple):
    """One array of a file.

    Args:
        kind: NumPy's name of its type, little endian.
        columns: Numbers per row.
        by: The section whose offsets assign rows to entries; its own name if it has offsets.
    """

    kind: str
    columns: int
    by: str


class Part(NamedTuple):
    """A consecutive part of the entries.

    Args:
        lengths: Rows of each entry, for each section that has offsets.
        values: The rows of all its entries, section by section.
        rejected: Index of an entry within the part -> arguments of its `BadSample`.
    """

    lengths: Mapping[str, Sequence[int]]
    values: Mapping[str, bytes]
    rejected: Mapping[int, Sequence[str]]


def offset_names(sections: Mapping[str, Section]) -> list[str]:
    """The sections with their own offsets."""
    return [name for name, section in sections.items() if section.by == name]


def parts_of(work: Callable[[Sequence[str]], Part], rows: Sequence[str], workers: int) -> Iterator[Part]:
    """Apply `work` to chunks of rows, in order, by several processes if there are many rows.

    Args:
        work: Picklable function of a chunk of rows.
        rows: The rows, in order.
        workers: Number of processes; below 2, this process only. They are spawned, because forking a process with
            threads may hang.
    """
    chunks = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    if workers < 2 or len(rows) < _PROCESSES_FROM:
        yield from map(work, chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[Part]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > 2 * workers:  # to bound memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def write(
    path: Path, magic: bytes, sections: Mapping[str, Section], head: Mapping[str, Any], parts: Iterable[Part]
) -> None:
    """Write a file atomically; its content is buffered on disk, not in memory.

    Args:
        path: Path of the file; its folder is created if missing.
        magic: First bytes of the file.
        sections: Its arrays.
        head: Further entries of its header.
        parts: Its entries.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    offsets = offset_names(sections)
    lengths: dict[str, list[int]] = {name: [0] for name in offsets}
    rejected: dict[str, list[str]] = {}
    count = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in sections}
        for part in parts:
            rejected |= {str(count + index): list(reason) for index, reason in part.rejected.items()}
            for name in offsets:
                lengths[name] += part.lengths[name]
            for name, file in files.items():
                file.write(part.values[name])
            count = len(lengths[offsets[0]]) - 1
        pieces: list[tuple[str, Any, int]] = []
        for name in offsets:
            data = np.cumsum(lengths[name]).astype("<i8").tobytes()
            pieces.append((f"{name}_offsets", data, len(data)))
        pieces += [(name, file, file.tell()) for name, file in files.items()]
        layout: dict[str, list[int]] = {}
        size = 0
        for name, _, length in pieces:
            size += -size % ALIGNED
            layout[name] = [size, length]
            size += length
        digest = hashlib.sha256()
        _pour(pieces, digest.update)
        header = {**head, "count": count, "rejected": rejected, "layout": layout, "bytes": size}
        header["sha256"] = digest.hexdigest()
        text = json.dumps(header, ensure_ascii=True).encode()
        start = magic + len(text).to_bytes(8, "little") + text
        with replaced(path) as partial, partial.open("wb") as whole:
            whole.write(start + bytes(-len(start) % ALIGNED))
            _pour(pieces, whole.write)


def _pour(pieces: Iterable[tuple[str, Any, int]], take: Callable[[bytes], Any]) -> None:
    """Write the pieces in order, each aligned to `ALIGNED`."""
    size = 0
    for _, data, length in pieces:
        take(bytes(-size % ALIGNED))
        size += -size % ALIGNED + length
        if isinstance(data, bytes):
            take(data)
        else:
            data.seek(0)
            while block := data.read(1 << 20):
                take(block)


def read(
    path: Path, magic: bytes, sections: Mapping[str, Section], head: Mapping[str, Any]
) -> tuple[dict[str, Any], Arrays, Arrays]:
    """Open a file: header, arrays (memory-mapped), offsets (in memory). Only its hash is checked.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError: it is no such file, or its header
            differs from `head`.
    """
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    start = len(magic) + 8
    if whole[: len(magic)].tobytes() != magic:
        raise ValueError("it does not begin as one")
    length = int.from_bytes(whole[len(magic) : start].tobytes(), "little")
    if not 0 < length <= min(MAX_HEADER, len(whole) - start):
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(whole[start : start + length].tobytes())
    if not isinstance(header, dict):
        raise TypeError("its header is no mapping")
    for name, value in head.items():
        if header[name] != value:
            raise ValueError(f"made by {name} {header[name]}, this is {value}")
    start += length
    body = whole[start + -start % ALIGNED :]
    if len(body) != header["bytes"]:
        raise ValueError(f"{len(body)} bytes of numbers, its header says {header['bytes']}")
    if hashlib.sha256(body.data).hexdigest() != header["sha256"]:
        raise ValueError("its numbers are not those that were written")
    return header, *_views(header, body, sections)


def _views(header: dict[str, Any], body: NDArray[np.uint8], sections: Mapping[str, Section]) -> tuple[Arrays, Arrays]:
    def view(name: str, kind: str, rows: int, columns: int) -> NDArray[Any]:
        first, length = header["layout"][name]
        expected = rows * columns * np.dtype(kind).itemsize
        if length != expected or first % ALIGNED or not 0 <= first <= len(body) - length:
            raise ValueError(f"{length} bytes of {name} at {first}, expected {expected}")
        # Plain arrays over the map: slicing a memmap is ten times slower.
        values = np.asarray(body[first : first + length]).view(np.ndarray).view(kind)
        return values.reshape(-1, columns) if columns > 1 else values

    offsets: Arrays = {}
    for name in offset_names(sections):
        offsets[name] = np.array(view(f"{name}_offsets", "<i8", header["count"] + 1, 1))
        if offsets[name][0] != 0 or (np.diff(offsets[name]) < 0).any():
            raise ValueError(f"offsets of {name} that do not ascend from 0")
    arrays = {
        name: view(name, section.kind, int(offsets[section.by][-1]), section.columns)
        for name, section in sections.items()
    }
    return arrays, offsets


@contextmanager
def usable(path: Path, kind: str) -> Iterator[None]:
    """Turn every fault of a file into one error.

    Args:
        path: The file.
        kind: What it is, for the message: "molecules".

    Raises:
        UserError: an error of reading or of checking was raised inside.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path} is no store of {kind} that can be used ({type(error).__name__}: {error}); "
            "delete it and build it again"
        ) from error


def opened_or_built(path: Path, open_file: Callable[[Path], T], build: Callable[[], object]) -> T:
    """Open a file; if it is missing or unusable, build it first.

    Args:
        path: The file.
        open_file: Opens and checks it; raises `UserError` if it is unusable.
        build: Writes it, replacing a damaged one atomically.
    """
    if path.is_file():
        try:
            return open_file(path)
        except UserError:
            pass  # damaged: built again below
    build()
    return open_file(path)


def key(magic: bytes, head: Mapping[str, Any], rows: Iterable[str]) -> str:
    """File name: a hash of rows, versions and settings."""
    digest = hashlib.sha256(magic + json.dumps(head, sort_keys=True).encode())
    for row in rows:
        text = row.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()[:32]
