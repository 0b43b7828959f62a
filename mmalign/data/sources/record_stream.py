"""A stream of records in shards, read one after the other."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from mmalign.data.sources.base import Record, Source, SourceConfig
from mmalign.errors import MissingFile


@runtime_checkable
class Streamable(Protocol):
    """A class of sources whose records can be read in shards, without a list of all."""

    @classmethod
    def open_stream(cls, config: SourceConfig) -> "RecordStream":
        """The shards.

        Raises:
            UserError: they cannot be opened.
        """
        ...


BLOCK = 64
"""Records of one shard of a source that lists its records."""


class LostShard(Exception):
    """A shard that cannot be read to its end.

    Args:
        shard: Its name.
        reason: What was expected and what was found.
    """

    def __init__(self, shard: str, reason: str) -> None:
        super().__init__(f"{shard}: {reason}")
        self.shard, self.reason = shard, reason


class RecordStream(ABC):
    """Records in shards; picklable for loader workers.

    Args:
        config: Configuration of the source.
        shards: Names of the shards.
    """

    def __init__(self, config: SourceConfig, shards: Sequence[str]) -> None:
        self.config, self.shards = config, tuple(shards)

    @abstractmethod
    def read(self, shard: int) -> Iterator[Record]:
        """The records of a shard, in its order.

        Raises:
            LostShard: it cannot be opened, or not be read to its end.
        """

    @abstractmethod
    def rows(self) -> int | None:
        """Number of records of all shards, or an estimate of it; None where it is not known."""

    def fetch(self, name: str) -> Path | bytes:
        """The file that a record names; records of shards contain their files.

        Raises:
            MissingFile: there is no such file.
        """
        raise MissingFile(name, "a record with the content of its file", "a name")

    def fingerprint(self) -> str:
        """A hash of the names of the shards: their content is not read."""
        return hashlib.sha256("\0".join(self.shards).encode("utf-8", "surrogatepass")).hexdigest()


def open_stream(kind: type[Source], config: SourceConfig) -> "RecordStream":
    """The records of a source as a stream.

    Raises:
        UserError: the source cannot be opened.
    """
    return kind.open_stream(config) if isinstance(kind, Streamable) else ListedStream(kind(config))


class ListedStream(RecordStream):
    """The records of any source, in blocks; samples are decoded when they are needed.

    Args:
        source: Lists the records.
        block: Records of a shard.
    """

    def __init__(self, source: Source, block: int = BLOCK) -> None:
        self.source, self.block, self._records = source, block, source.records()
        blocks = range(-(-len(self._records) // block))
        super().__init__(source.config, [f"records {number * block + 1} and following" for number in blocks])

    def read(self, shard: int) -> Iterator[Record]:
        yield from self._records[shard * self.block : (shard + 1) * self.block]

    def rows(self) -> int:
        return len(self._records)

    def fetch(self, name: str) -> Path | bytes:
        return self.source.fetch(name)

    def fingerprint(self) -> str:
        return self.source.fingerprint()
