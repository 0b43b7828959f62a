"""Random access to untrusted tar and zip archives."""

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, cast

from mmalign.data.files.store import MAX_BYTES, FileStore, file_sha256, safe_name, spellings
from mmalign.errors import BadSample, MissingFile, UserError

# A compressed tar may expand to this many times its size plus a gigabyte; beyond that it counts as a bomb.
_UNFOLD_FACTOR, _UNFOLD_BYTES = 100, 1 << 30
_MEMBER_BYTES = 1 << 26  # the same of one member of a zip, which is unpacked in memory
_CHUNK = 1 << 20
_METADATA = (b"L", b"K", b"x", b"g", b"X")  # long names and links, extended headers
_MAX_METADATA = 1 << 20  # bytes of a long name, or of the extended header of a tar's member
_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, ValueError,
    LookupError,
)  # fmt: skip


class _Member(NamedTuple):
    offset: int
    size: int
    refusal: str  # reason for refusing this member; "" = readable


class ArchiveStore(FileStore):
    """Base of tar and zip: an index of members, read once."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, max_bytes=max_bytes)
        self._members: dict[str, _Member] = {}
        self._aliases: dict[str, str] = {}  # other names of members
        self._damage = ""

    def names(self) -> list[str]:
        return sorted(name for name, member in self._members.items() if not member.refusal)

    def fetch(self, name: str) -> bytes:
        clean = safe_name(name, self.path)
        if clean not in self._members:
            others = (safe_name(other, self.path) for other in spellings(name))
            clean = next((other for other in others if other in self._members), self._aliases.get(clean, clean))
        member = self._members.get(clean)
        if member is None:
            example = next(iter(self._members), "")
            came = "no such member" + (f" (it has for instance {example!r})" if example else " (it is empty)")
            raise MissingFile(self._where(name), f"a member of {self.path.name}", came + self._damage)
        if member.refusal:
            raise BadSample(self._where(name), "a regular file", member.refusal)
        self._check_size(name, member.size)
        return self._read(clean, member)

    def fingerprint(self, names: Iterable[str]) -> str:
        return file_sha256(self.path)

    def _read(self, name: str, member: _Member) -> bytes:
        raise TypeError(f"{type(self).__name__} must define _read(name, member) -> bytes")

    def _add(self, name: str, member: _Member) -> None:
        try:
            self._members[safe_name(name, self.path)] = member
        except BadSample:
            return  # not reachable by any valid name


class BoundedTarInfo(tarfile.TarInfo):
    """Refuses headers whose name or metadata are stated to be larger than any is, before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        if self.type in _METADATA and self.size > _MAX_METADATA:
            raise tarfile.ReadError(f"a header of {self.size} bytes of metadata")
        return cast(Self, super()._proc_member(archive))  # type: ignore[misc]


class TarStore(ArchiveStore):
    """A tar: member offsets are read once, a fetch is one read at an offset."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, max_bytes=max_bytes)
        self._open()
        try:
            with tarfile.open(fileobj=self._file, mode="r:", tarinfo=BoundedTarInfo) as archive:
                for info in archive:
                    if info.islnk() and (linked := self._linked(info)) is not None:
                        self._add(info.name, linked)
                    else:
                        self._add(info.name, _Member(info.offset_data, info.size, _tar_refusal(info)))
        except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
            if not self._members:
                raise UserError(
                    f"{path}: expected a folder, tar or zip, got a file that opens as none: {error}"
                ) from error
            self._damage = f"; the archive is damaged after {len(self._members)} members: {error}"

    def _linked(self, info: tarfile.TarInfo) -> _Member | None:
        """The regular member before a hard link that is the same file; None if there is none."""
        try:
            member = self._members.get(safe_name(info.linkname, self.path))
        except BadSample:
            return None
        return None if member is None or member.refusal else member

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._file = _unpacked(self.path)
        weakref.finalize(self, self._file.close)

    def _read(self, name: str, member: _Member) -> bytes:
        data = self._read_at(member.offset, member.size)
        if len(data) < member.size:
            raise BadSample(self._where(name), f"{member.size} bytes", f"{len(data)}: the archive is cut off")
        return data

    def _read_at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):  # no shared position: safe between threads and after a fork
            parts = []
            while size and (part := os.pread(self._file.fileno(), min(size, _CHUNK * 256), offset)):
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
            return b"".join(parts)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_file", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class ZipStore(ArchiveStore):
    """A zip; each process opens its own handle."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(path, max_bytes=max_bytes)
        self._lock, self._process = threading.Lock(), 0
        try:
            for info in self._archive().infolist():
                if not info.is_dir():
                    self._add(info.filename, _Member(0, info.file_size, _zip_refusal(info)))
                    for other in _decoded(info):
                        self._aliases.setdefault(other, info.filename)
        except _DAMAGE as error:
            raise UserError(f"{path}: expected a zip, got a damaged one: {error}") from error

    def _archive(self) -> zipfile.ZipFile:
        with self._lock:
            if self._process != os.getpid():  # a fork shares the file's position with its parent
                self._zip = zipfile.ZipFile(self.path)
                self._infos = {}
                for info in self._zip.infolist():
                    try:
                        self._infos[safe_name(info.filename, self.path)] = info
                    except BadSample:
                        continue
                self._process = os.getpid()
            return self._zip

    def _read(self, name: str, member: _Member) -> bytes:
        archive = self._archive()
        try:
            with archive.open(self._infos[name]) as file:
                data = file.read(member.size + 1)
        except _DAMAGE as error:
            raise BadSample(self._where(name), "a whole member", f"{type(error).__name__}: {error}") from error
        if len(data) != member.size:
            raise BadSample(self._where(name), f"{member.size} bytes", f"{len(data)}: the archive is damaged")
        return data

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_zip", "_infos", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self._process = threading.Lock(), 0


def _tar_refusal(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname!r}"
    if info.sparse is not None:
        return "a sparse file"
    return "" if info.isreg() else "a folder or device"


def _decoded(info: zipfile.ZipInfo) -> Iterable[str]:
    """Other readings of a name whose encoding the zip does not state, where Python takes code page 437."""
    if not info.flag_bits & 0x800 and not info.filename.isascii():
        for encoding in ("utf-8", "cp1252"):
            try:
                yield info.filename.encode("cp437").decode(encoding)
            except UnicodeError:
                continue


def _zip_refusal(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where another system than Unix wrote it
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG):
        return "a folder or device"
    if info.file_size > _UNFOLD_FACTOR * info.compress_size + _MEMBER_BYTES:
        return (
            f"{info.compress_size} bytes that decompress to {info.file_size}, like a decompression bomb; unpack the zip"
        )
    return ""


def _unpacked(path: Path) -> IO[bytes]:
    """The tar itself or, if compressed, its content in an anonymous temporary file."""
    with path.open("rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        return cast(IO[bytes], path.open("rb", buffering=0))
    limit = _UNFOLD_FACTOR * path.stat().st_size + _UNFOLD_BYTES
    target = cast(IO[bytes], tempfile.TemporaryFile())  # noqa: SIM115 - lives as long as the store
    try:
        with opener(path) as packed:
            while chunk := packed.read(_CHUNK):
                target.write(chunk)
                if target.tell() > limit:
                    raise UserError(f"{path}: decompresses to more than {limit} bytes, like a decompression bomb")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        target.close()
        raise UserError(f"{path}: expected a packed tar, got a damaged one: {error}") from error
    except UserError:
        target.close()
        raise
    target.flush()  # reads by offset bypass its buffer
    target.seek(0)
    return target
