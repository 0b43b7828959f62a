"""Mutations inside containers, with checksums made right again: what a program that writes nonsense would write."""

import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

Inner = Callable[[random.Random, bytes, str], bytes]
"""Mutates the content of a member with this name."""


def mutate_inside(rng: random.Random, data: bytes, inner: Inner) -> bytes | None:
    """Mutate a member of a zip, gzip, tar or PNG; None if the file is none of them or is damaged."""
    try:
        if data.startswith(b"PK\x03\x04"):
            return _zip(rng, data, inner)
        if data.startswith(b"\x1f\x8b"):
            return gzip.compress(inner(rng, gzip.decompress(data), ""), 1, mtime=0)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(rng, data, inner)
        if data[257:262] == b"ustar":
            return _tar(rng, data, inner)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, tarfile.TarError, KeyError, struct.error):
        return None
    return None


def _zip(rng: random.Random, data: bytes, inner: Inner) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = rng.randrange(len(members))
    stream = io.BytesIO()
    kind = rng.randrange(8)
    with zipfile.ZipFile(stream, "w") as archive:
        for index, (info, content) in enumerate(members):
            target = zipfile.ZipInfo(info.filename)
            target.external_attr, target.compress_type = info.external_attr, info.compress_type
            if index == chosen:
                if kind == 0:
                    continue
                if kind == 1:
                    target.filename = rng.choice(("../x", "/x", "x", info.filename + "\u00e9", "a\\b"))
                else:
                    content = inner(rng, content, info.filename)
            archive.writestr(target, content)
    return stream.getvalue()


def _png(rng: random.Random, data: bytes, inner: Inner) -> bytes:
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = rng.randrange(len(chunks))
    name, content = chunks[chosen]
    kind = rng.randrange(6)
    if kind == 0:
        del chunks[chosen]
    elif kind == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[chosen])
    elif name == b"IDAT" and kind < 4:
        chunks[chosen] = (name, zlib.compress(inner(rng, zlib.decompress(content), "")))
    else:
        chunks[chosen] = (name, inner(rng, content, ""))
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return data[:8] + body


def _tar(rng: random.Random, data: bytes, inner: Inner) -> bytes:
    """A member's content, or a field of a header with its checksum."""
    if rng.random() < 0.5:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            starts = [info.offset for info in archive]
        start = rng.choice(starts)
        header = bytearray(data[start : start + 512])
        where = rng.choice(((0, 100), (100, 24), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
        for _ in range(rng.choice((1, 4))):
            header[where[0] + rng.randrange(where[1])] = rng.choice((0, 32, 47, 46, 49, 55, 76, 120, 255))
        header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
        return data[:start] + bytes(header) + data[start + 512 :]
    stream = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=stream, mode="w") as target:
        members = list(source)
        chosen = rng.randrange(len(members))
        for index, info in enumerate(members):
            file = source.extractfile(info)
            content = file.read() if file is not None else b""
            if index == chosen and info.isreg():
                content = inner(rng, content, info.name)
                info.size = len(content)
            target.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return stream.getvalue()
