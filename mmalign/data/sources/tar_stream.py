"""Tar shards in the webdataset layout, read from their beginning to their end: local files, or addresses."""

import io
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from mmalign.data.files.archives import BoundedTarInfo
from mmalign.data.sources.base import Record, SourceConfig
from mmalign.data.sources.manifest import max_file_bytes
from mmalign.data.sources.record_stream import LostShard, RecordStream
from mmalign.data.sources.shard_names import expand_braces, is_address, shard_paths, shard_pattern, short_names
from mmalign.data.sources.tar_row import Members, TarRow, check_columns, key_and_extension
from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest

SCHEMES = ("file", "http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "ftp", "sftp", "hdfs", "webhdfs")
"""Addresses that are opened, by fsspec; those beyond file, http and https need fsspec's own packages."""

ATTEMPTS = 3
"""How often a shard at an address is opened before it counts as lost."""

WAIT = 1.0
"""Seconds before the second attempt; doubled for each further one."""


class TarStream(RecordStream):
    """Tar shards; a record contains the bytes of its files.

    The members of a record follow each other. A process holds the members of one record at a time, and only those
    whose extension a column names.

    Args:
        config: `manifest` is one tar, a folder of tars, or a brace pattern of paths or addresses, such as
            `https://host/train-{000..031}.tar`; columns as for the source `webdataset`.

    Raises:
        UserError: no such shard, an address of another scheme, or the first record has no column's extension.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.addresses = shard_addresses(shard_pattern(config))
        super().__init__(config, short_names(self.addresses))
        self._row, self._max_bytes = TarRow(config, inline=True), max_file_bytes(config)
        self._needed = self._row.extensions
        self._check_columns()

    def read(self, shard: int) -> Iterator[Record]:
        address, name, done = self.addresses[shard], self.shards[shard], 0
        attempts = ATTEMPTS if is_address(address) else 1
        for attempt in range(attempts):
            if attempt:
                time.sleep(WAIT * 2 ** (attempt - 1))
            try:
                for number, members in enumerate(self._members(address, name)):
                    if number >= done:  # earlier ones were read before the connection was lost
                        done += 1
                        yield self._row.record(members)
                return
            except UserError:
                raise
            except Exception as error:  # of tarfile, decompressors and file systems
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise LostShard(name, f"expected a whole tar, got after {done} records {reason}")

    def rows(self) -> int | None:
        """An estimate from the first local shard that can be read: its number of records, times the size of all."""
        if is_address(self.addresses[0]):
            return None
        for shard in range(len(self.addresses)):
            try:
                count = sum(1 for _ in self._members(self.addresses[shard], self.shards[shard], contents=False))
            except Exception:  # reported where the shard is read
                continue
            sizes = [Path(path).stat().st_size for path in self.addresses if Path(path).is_file()]
            return round(count * sum(sizes) / max(1, Path(self.addresses[shard]).stat().st_size))
        return None

    def _check_columns(self) -> None:
        """Compare the columns with the extensions of the first shard that can be read."""
        for address, name in zip(self.addresses, self.shards, strict=True):
            try:
                first = [members for _, members in zip(range(16), self._members(address, name), strict=False)]
            except UserError:
                raise
            except Exception:  # reported where the shard is read
                continue
            check_columns(self.config, {extension for members in first for extension in members.parts})
            return

    def _members(self, address: str, shard: str, *, contents: bool = True) -> Iterator[Members]:
        """The members of each key; without contents, their names alone."""
        key, parts, data = "", {}, {}  # type: ignore[var-annotated]
        with ExitStack() as stack:
            file = stack.enter_context(_opened(address))
            archive = stack.enter_context(
                tarfile.open(fileobj=file, mode="r|*" if is_address(address) else "r:*", tarinfo=_WholeHeader)
            )
            for info in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # or a shard's index grows in memory
                now, extension = key_and_extension(info.name)
                if not now or info.isdir():
                    continue
                if now != key:
                    if parts:
                        yield Members(shard, key, parts, _Contents(shard, data))
                    key, parts, data = now, {}, {}
                parts[extension] = info.name
                if contents and extension in self._needed:
                    data[info.name] = self._content(archive, info)
            if parts:
                yield Members(shard, key, parts, _Contents(shard, data))

    def _content(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | tuple[str, str]:
        """The bytes of a member; or what was expected and what was found."""
        if not info.isreg() or info.sparse is not None:
            return "a regular file", "a link or device"
        if info.size > self._max_bytes:
            return f"a file of at most {self._max_bytes} bytes", f"{info.size} bytes"
        return cast(IO[bytes], archive.extractfile(info)).read()


class _Contents:
    """Fetches the members of one record from memory."""

    def __init__(self, shard: str, data: dict[str, bytes | tuple[str, str]]) -> None:
        self._shard, self._data = shard, data

    def __call__(self, member: str) -> bytes:
        data = self._data[member]
        if isinstance(data, bytes):
            return data
        raise BadSample(f"{self._shard}!{member}", *data)


class _WholeHeader(BoundedTarInfo):
    """Headers of a tar whose end within a header is an error, where tarfile would end in silence."""

    @classmethod
    def fromtarfile(cls, tar: Any) -> Any:
        try:
            return super().fromtarfile(tar)
        except tarfile.TruncatedHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("the end of the file within a header") from error


def shard_addresses(pattern: str) -> list[str]:
    """The shards of a pattern of local paths or addresses, in order.

    Raises:
        UserError: a scheme that is not opened, such as a command, or a missing local shard.

    Example:
        >>> shard_addresses("https://example.org/s-{0..1}.tar")
        ['https://example.org/s-0.tar', 'https://example.org/s-1.tar']
    """
    if not is_address(pattern):
        return [str(path) for path in shard_paths(pattern)]
    scheme = pattern.partition(":")[0].lower()
    if scheme not in SCHEMES or "::" in pattern:
        raise UserError(
            f"{pattern}: expected local shards or an address that starts with one of {', '.join(SCHEMES)}"
            f"{nearest(scheme, SCHEMES)}; no command is run"
        )
    return expand_braces(pattern)


def _opened(address: str) -> IO[bytes]:
    if not is_address(address):
        return Path(address).open("rb")
    import fsspec

    try:
        return cast(IO[bytes], io.BufferedReader(fsspec.open(address, "rb").open()))
    except ImportError as error:
        raise UserError(f"{address}: {error}") from error
