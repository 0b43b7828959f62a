"""Ids and positives of streamed records, by hash: equal on every process without communication."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmalign.data.batching.batches import content_key, positive_groups
from mmalign.data.sources.base import Record


def hashed(key: str) -> int:
    """A number of 63 bits, equal for equal keys.

    Example:
        >>> hashed("a") == hashed("a"), hashed("a") == hashed("b")
        (True, False)
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def hashed_groups(records: Sequence[Record], how: str, texts: Mapping[str, bool]) -> NDArray[np.int64]:
    """Group number of each record of one process's batch; records of equal number are positives of each other.

    Args:
        records: The records of the batch.
        how: record, group (a record without one is its own group) or content: records of this batch that share a
            value, as `positive_groups` finds them, and records of other processes with an equal smallest hash of their
            sentences.
        texts: Tower -> whether its strings are samples themselves.
    """
    own = [hashed(f"id {record.id}") for record in records]
    if how == "record":
        return np.array(own, dtype=np.int64)
    if how == "group":
        found = [one if r.group is None else hashed(f"group {r.group}") for one, r in zip(own, records, strict=True)]
        return np.array(found, dtype=np.int64)
    smallest: dict[int, int] = {}
    numbers = positive_groups(records, "content").tolist()
    for number, record, one in zip(numbers, records, own, strict=True):
        sentences = [value for tower, values in record.values.items() if texts.get(tower) for value in values]
        keys = [hashed(f"text {content_key(value)!r}") for value in sentences] or [one]
        smallest[number] = min(smallest.get(number, 1 << 63), *keys)
    return np.array([smallest[number] for number in numbers], dtype=np.int64)
