"""Records -> batches: which alternative is drawn, which rows mean the same, and the joining of items."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mmalign.data.sample_cache import Samples
from mmalign.data.sampling import NO_EPOCH, Key
from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.types import Batch, Inputs


class PairBatches(Dataset[Batch]):
    """The batch of a key: an epoch and the places of its records.

    All randomness of a record, which alternative is drawn and how each side is augmented, comes from one generator
    seeded with (seed, epoch, place): it does not depend on workers, batch or rank.

    Args:
        samples: Decoded samples of all records.
        transforms: Side -> transform.
        groups: A number for each record; equal = also a positive.
        seed: Of the augmentation.
        chunks: Side -> how many items are collated at once where there are more; default: all.
    """

    def __init__(
        self,
        samples: Samples,
        transforms: Mapping[str, Transform],
        groups: NDArray[np.int64],
        *,
        seed: int,
        chunks: Mapping[str, int] | None = None,
    ) -> None:
        self.samples, self.groups, self.seed, self.chunks = samples, groups, seed, dict(chunks or {})
        self.transforms = {side: transforms[side] for side in sorted(transforms)}

    def __getitem__(self, key: Key) -> Batch:
        epoch, places = key
        items: dict[str, list[Any]] = {side: [] for side in self.transforms}
        rows: dict[str, list[int]] = {side: [] for side in self.transforms}
        records, item = self.samples.records, self.samples.item
        for row, place in enumerate(places.tolist()):
            rng = None if epoch == NO_EPOCH else np.random.default_rng((self.seed, epoch, place))
            values = records[place].values
            for side, transform in self.transforms.items():
                count = len(values.get(side, ()))
                if count:
                    drawn = int(rng.integers(count)) if rng is not None and count > 1 else 0
                    items[side].append(item(place, side, transform, alternative=drawn, rng=rng))
                    rows[side].append(row)
        return Batch(
            inputs={side: self._collate(side, items[side]) for side in self.transforms if items[side]},
            sample_indices={side: torch.tensor(present, dtype=torch.int64) for side, present in rows.items()},
            ids=torch.from_numpy(places),
            groups=torch.from_numpy(self.groups[places]),
        )

    def _collate(self, side: str, items: list[Any]) -> Inputs | list[Inputs]:
        collate, size = self.transforms[side].collate, self.chunks.get(side, len(items))
        if size >= len(items):
            return collate(items)
        return [collate(items[start : start + size]) for start in range(0, len(items), size)]


class ItemBatches(Dataset[tuple[Inputs, Tensor]]):
    """Every alternative of one side, without augmentation; a key is a range of items.

    Args:
        samples: Decoded samples of all records.
        side: Which side.
        transform: Its transform.
        places: The records wanted; an item says which of these it belongs to.
    """

    def __init__(self, samples: Samples, side: str, transform: Transform, places: Sequence[int]) -> None:
        self.samples, self.side, self.transform = samples, side, transform
        self.items = [
            (row, place, alternative)
            for row, place in enumerate(places)
            for alternative in range(len(samples.records[place].values.get(side, ())))
        ]

    def __getitem__(self, key: range) -> tuple[Inputs, Tensor]:
        chosen = self.items[key.start : key.stop]
        items = [self.samples.item(place, self.side, self.transform, alternative=which) for _, place, which in chosen]
        return self.transform.collate(items), torch.tensor([row for row, _, _ in chosen], dtype=torch.int64)


def positive_groups(records: Sequence[Record], how: str) -> NDArray[np.int64]:
    """A number for each record; records of equal numbers are positives of each other.

    Args:
        records: All rows.
        how: record (only the record itself), group (equal `group`; a record without one stands alone), or content
            (records that share a sentence, a file or a value on some side, directly or through other rows).

    Raises:
        UserError: an unknown way, or `group` where no record has one.
    """
    if how == "record":
        return np.arange(len(records), dtype=np.int64)
    if how == "group":
        if not any(record.group is not None for record in records):
            raise UserError("--data.positives group: the data has no group; name its column with --data.columns.group")
        return _joined(records, lambda record: [] if record.group is None else [record.group])
    return _joined(records, _contents)


def content_key(value: Any) -> Hashable:
    """What equal raw values have in common: strings themselves, a digest of anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).digest()
    array = np.ascontiguousarray(value)
    head = f"{array.dtype} {array.shape}".encode()
    return hashlib.blake2b(head + array.tobytes(), digest_size=16).digest()


def _contents(record: Record) -> list[Hashable]:
    return [(side, content_key(value)) for side, values in record.values.items() for value in values]


def _joined(records: Sequence[Record], keys: Callable[[Record], Sequence[Hashable]]) -> NDArray[np.int64]:
    """Connected records (union-find): the number of a set is its first member's place."""
    parents = list(range(len(records)))
    owners: dict[Hashable, int] = {}

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for place, record in enumerate(records):
        for key in keys(record):
            one, other = root(place), root(owners.setdefault(key, place))
            parents[max(one, other)] = min(one, other)
    return np.fromiter((root(place) for place in range(len(records))), dtype=np.int64, count=len(records))
