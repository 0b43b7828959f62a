"""The source `webdataset`: tar shards whose members of one key are one row (`a.jpg`, `a.txt`, `a.json`)."""

import hashlib
from collections.abc import Iterable, Sequence

from mmalign.data.files.archives import TarStore
from mmalign.data.files.store import file_sha256
from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.data.sources.manifest import max_file_bytes
from mmalign.data.sources.shard_names import shard_paths, shard_pattern, short_names
from mmalign.data.sources.tar_row import Members, TarRow, check_columns, key_and_extension
from mmalign.data.sources.tar_stream import TarStream
from mmalign.errors import MissingFile


class WebdatasetSource(Source):
    """Local tar shards in the webdataset layout, with random access by an index of offsets.

    `manifest` is one tar, a folder of tars or a brace pattern such as `train-{000..031}.tar`. A column is an
    extension (`jpg`, or several to try: `jpg;png`), or a key of the JSON member: `json:caption`. `id`, `group`,
    `label` and `split` default to the JSON's keys of these names, `label` also to the extension `cls`.

    Options: `max_file_mb`, the maximum size of a member (default 1024).

    Raises:
        UserError: no such shard, or no row has the extension of a column.
    """

    def __init__(self, config: SourceConfig) -> None:
        super().__init__(config)
        paths, max_bytes = shard_paths(shard_pattern(config)), max_file_bytes(config)
        names = short_names([str(path) for path in paths])
        self._shards = {name: TarStore(path, max_bytes=max_bytes) for name, path in zip(names, paths, strict=True)}
        rows = [
            (shard, key, parts, store)
            for shard, store in self._shards.items()
            for key, parts in _grouped(store.names())
        ]
        check_columns(config, {extension for _, _, parts, _ in rows for extension in parts})
        one_row = TarRow(config)
        self._records = [one_row.record(Members(shard, key, parts, store.fetch)) for shard, key, parts, store in rows]

    @classmethod
    def open_stream(cls, config: SourceConfig) -> TarStream:
        """The shards, read from their beginning to their end; also at an address."""
        return TarStream(config)

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> bytes:
        shard, _, member = name.partition("!")
        if shard not in self._shards:
            raise MissingFile(name, "a member as shard.tar!name", "no such shard")
        return self._shards[shard].fetch(member)

    def fingerprint(self) -> str:
        parts = [f"{name} {file_sha256(store.path)}" for name, store in self._shards.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _grouped(members: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    groups: dict[str, dict[str, str]] = {}
    for member in members:
        key, extension = key_and_extension(member)
        if key:
            groups.setdefault(key, {})[extension] = member
    return list(groups.items())
