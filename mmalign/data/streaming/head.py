"""The first records of a stream, as a source."""

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from mmalign.data.sources.base import Record, Source
from mmalign.data.sources.record_stream import LostShard, RecordStream
from mmalign.data.streaming.order import Consumer, one_pass
from mmalign.errors import UserError


class StreamHead(Source):
    """The first records of a stream whose shards are permuted: for fitting transforms, and for validation.

    Args:
        stream: The shards.
        count: Number of records.
        seed: Seed of the permutation.

    Raises:
        UserError: no record can be read.
    """

    def __init__(self, stream: RecordStream, count: int, seed: int) -> None:
        super().__init__(stream.config)
        self.stream = stream
        lost: list[LostShard] = []
        self._records = tuple(islice(one_pass(stream, Consumer(seed=seed), lost=lost.append), count))
        if not self._records:
            found = f", the first fault: {lost[0]}" if lost else ""
            raise UserError(f"--data.stream: expected records, got none of {len(stream.shards)} shards{found}")

    def records(self) -> Sequence[Record]:
        return self._records

    def fetch(self, name: str) -> Path | bytes:
        return self.stream.fetch(name)

    def fingerprint(self) -> str:
        ids = "\0".join(record.id for record in self._records)
        return hashlib.sha256(f"{self.stream.fingerprint()} {ids}".encode("utf-8", "surrogatepass")).hexdigest()
