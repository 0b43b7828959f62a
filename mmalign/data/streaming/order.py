"""Which shards a consumer reads, and in which order: a pure function of seed, epoch and consumer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from mmalign.data.sources.base import Record
from mmalign.data.sources.record_stream import LostShard, RecordStream
from mmalign.errors import UserError


@dataclass(frozen=True)
class Consumer:
    """One of the processes that read a stream: a loader's worker of a rank.

    Args:
        number: From 0, over the workers of all ranks.
        total: Number of all consumers.
        seed: Seed of the order.
        epoch: The epoch.
    """

    number: int = 0
    total: int = 1
    seed: int = 0
    epoch: int = 0

    def rng(self, *more: int) -> np.random.Generator:
        """A generator for each purpose."""
        return np.random.default_rng((self.seed, self.epoch, self.number, *more))


def one_pass(
    stream: RecordStream, consumer: Consumer, times: int = 0, lost: Callable[[LostShard], None] | None = None
) -> Iterator[Record]:
    """The consumer's part of the records, each once.

    The shards are permuted, equally for all consumers, and divided among them. If there are fewer shards than
    consumers, each one reads all shards and takes every n-th record.

    Args:
        stream: The shards.
        consumer: Which part.
        times: How many passes of this epoch were before; each has its own order.
        lost: Called with each shard that cannot be read to its end; None = raised.
    """
    order = np.random.default_rng((consumer.seed, consumer.epoch, times, 5)).permutation(len(stream.shards)).tolist()
    divided = len(order) >= consumer.total
    number = 0
    for shard in order[consumer.number :: consumer.total] if divided else order:
        try:
            for record in stream.read(shard):
                if divided or number % consumer.total == consumer.number:
                    yield record
                number += 1
        except LostShard as error:
            if lost is None:
                raise
            lost(error)


def endless(
    stream: RecordStream, consumer: Consumer, lost: Callable[[LostShard], None], buffer: int = 0
) -> Iterator[Record]:
    """Pass after pass, each whole and in its own order, which is shuffled within a buffer.

    Raises:
        UserError: a pass has no record.
    """
    for times in count():
        empty = True
        for record in shuffled(one_pass(stream, consumer, times, lost), buffer, consumer.rng(6, times)):
            empty = False
            yield record
        if empty:
            raise UserError(
                f"--data.stream: process {consumer.number + 1} of {consumer.total} found no record in its part of "
                f"{len(stream.shards)} shards; see rejected.jsonl, or lower --data.workers"
            )


def mixed(streams: Sequence[Iterator[Record]], weights: Sequence[float], rng: np.random.Generator) -> Iterator[Record]:
    """Records of several endless streams, each drawn with a probability in proportion to its weight.

    Example:
        >>> from itertools import islice, repeat
        >>> both = mixed([repeat("a"), repeat("b")], [3, 1], np.random.default_rng(0))
        >>> 700 < list(islice(both, 1000)).count("a") < 800
        True
    """
    cumulative = np.cumsum(weights) / np.sum(weights)
    while True:
        yield next(streams[int(np.searchsorted(cumulative, rng.random(), side="right"))])


def shuffled(records: Iterator[Record], buffer: int, rng: np.random.Generator) -> Iterator[Record]:
    """The records in an order that is random within a buffer, by webdataset's buffer.

    Args:
        records: Endless, or not.
        buffer: Number of records that are kept; 1 or fewer = the order is unchanged.
        rng: Seeds the order.
    """
    if buffer <= 1:
        return records
    from webdataset import detshuffle

    seed = int(rng.integers(2**62))
    found: Iterator[Record] = detshuffle(bufsize=buffer, initial=buffer, seed=seed).run(records)
    return found
