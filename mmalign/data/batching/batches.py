"""Batches from records: choice of alternatives, positives, collation."""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mmalign.data.batching.sampling import NO_EPOCH, Key
from mmalign.data.caching.sample_cache import Samples
from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.types import Batch, Inputs


class PairBatches(Dataset[Batch]):
    """The batch of a key: an epoch and the indices of its records.

    All randomness of a record (choice of the alternative, augmentation of each tower) comes from one generator seeded
    with (seed, epoch, index): it does not depend on workers, batch or rank.

    Args:
        samples: Decoded samples of all records.
        transforms: Tower -> transform.
        groups: Group number of each record; equal = also a positive.
        seed: Seed of the augmentation.
        chunks: Tower -> maximum number of items collated at once; default: all.
        draw: Tower -> number of alternatives of a record that are drawn, 0 = all; default: 1.
        views: Tower -> how the second view of a sample is made, augmentation or alternative; default: there is none.
    """

    def __init__(
        self,
        samples: Samples,
        transforms: Mapping[str, Transform],
        groups: NDArray[np.int64],
        *,
        seed: int,
        chunks: Mapping[str, int] | None = None,
        draw: Mapping[str, int] | None = None,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.views = dict(views or {})
        self.samples, self.groups, self.seed, self.chunks = samples, groups, seed, dict(chunks or {})
        self.draw = {tower: number for tower, number in (draw or {}).items() if number != 1}
        self.transforms = {tower: transforms[tower] for tower in sorted(transforms)}

    def __getitem__(self, key: Key) -> Batch:
        epoch, indices = key
        items: dict[str, list[Any]] = {tower: [] for tower in self.transforms}
        sample_indices: dict[str, list[int]] = {tower: [] for tower in self.transforms}
        owner: dict[str, list[int]] = {tower: [] for tower in self.draw if tower in self.transforms}
        again: dict[str, list[Any]] = {tower: [] for tower in self.views if tower in self.transforms}
        records, item = self.samples.records, self.samples.item
        for sample, index in enumerate(indices.tolist()):
            rng = None if epoch == NO_EPOCH else np.random.default_rng((self.seed, epoch, index))
            second = np.random.default_rng(self._second_seed(epoch, index)) if again else None
            values = records[index].values
            for tower, transform in self.transforms.items():
                count = len(values.get(tower, ()))
                if count:
                    drawn = draw_alternatives(count, self.draw.get(tower, 1), rng)
                    items[tower] += [item(index, tower, transform, alternative=one, rng=rng) for one in drawn]
                    sample_indices[tower].append(sample)
                    if tower in owner:
                        owner[tower] += [sample] * len(drawn)
                    if tower in again and second is not None:
                        other = self.views[tower] == "alternative"
                        which = other_alternative(count, drawn[0], second) if other else drawn[0]
                        again[tower].append(item(index, tower, transform, alternative=which, rng=second))
        return Batch(
            inputs={tower: self._collate(tower, items[tower]) for tower in self.transforms if items[tower]},
            sample_indices=_indices(sample_indices),
            ids=torch.from_numpy(indices),
            groups=torch.from_numpy(self.groups[indices]),
            owner=_indices(owner),
            again={tower: self._collate(tower, views) for tower, views in again.items() if views},
        )

    def _second_seed(self, epoch: int, index: int) -> tuple[int, int, int, int]:
        """Seed of a record's second views: the first ones keep their generator. In validation it is always the same."""
        return (self.seed, 0, index, 3) if epoch == NO_EPOCH else (self.seed, epoch, index, 2)

    def _collate(self, tower: str, items: list[Any]) -> Inputs | list[Inputs]:
        collate, size = self.transforms[tower].collate, self.chunks.get(tower, len(items))
        if size >= len(items):
            return collate(items)
        return [collate(items[start : start + size]) for start in range(0, len(items), size)]


def draw_alternatives(count: int, number: int, rng: np.random.Generator | None) -> list[int]:
    """Indices of the alternatives of a record that enter a batch, ascending.

    Args:
        count: Number of alternatives, at least 1.
        number: How many are drawn, without replacement; 0 = all.
        rng: Draws them; None = the first ones.

    Example:
        >>> draw_alternatives(5, 3, None), len(draw_alternatives(5, 3, np.random.default_rng(0)))
        ([0, 1, 2], 3)
    """
    if number == 1:  # one draw, as ever: earlier runs repeat to the bit
        return [int(rng.integers(count)) if rng is not None and count > 1 else 0]
    number = min(number, count) or count
    if rng is None or number == count:
        return list(range(number))
    return sorted(rng.permutation(count)[:number].tolist())


def other_alternative(count: int, first: int, rng: np.random.Generator) -> int:
    """Index of another alternative of a record than the first view's; of a single alternative, itself."""
    return first if count == 1 else (first + 1 + int(rng.integers(count - 1))) % count


def _indices(of_towers: Mapping[str, list[int]]) -> dict[str, Tensor]:
    return {tower: torch.tensor(indices, dtype=torch.int64) for tower, indices in of_towers.items()}


class ItemBatches(Dataset[tuple[Inputs, Tensor]]):
    """Every alternative of one tower, without augmentation; a key is a range of items.

    Args:
        samples: Decoded samples of all records.
        tower: Name of the tower.
        transform: Its transform.
        indices: Indices of the records; each item has its record's position in this list.
    """

    def __init__(self, samples: Samples, tower: str, transform: Transform, indices: Sequence[int]) -> None:
        self.samples, self.tower, self.transform = samples, tower, transform
        self.items = [
            (row, index, alternative)
            for row, index in enumerate(indices)
            for alternative in range(len(samples.records[index].values.get(tower, ())))
        ]

    def __getitem__(self, key: range) -> tuple[Inputs, Tensor]:
        chosen = self.items[key.start : key.stop]
        items = [self.samples.item(index, self.tower, self.transform, alternative=which) for _, index, which in chosen]
        return self.transform.collate(items), torch.tensor([row for row, _, _ in chosen], dtype=torch.int64)


def positive_groups(records: Sequence[Record], how: str) -> NDArray[np.int64]:
    """Group number of each record; records of equal number are positives of each other.

    Args:
        records: All records.
        how: record (only the record itself), group (equal `group`; a record without one is its own group), or content
            (records that share a sentence, a file or a value of a tower, directly or through other records).

    Raises:
        UserError: an unknown criterion, or `group` where no record has one.
    """
    if how == "record":
        return np.arange(len(records), dtype=np.int64)
    if how == "group":
        if not any(record.group is not None for record in records):
            raise UserError("--data.positives group: the data has no group; name its column with --data.columns.group")
        return _joined(records, lambda record: [] if record.group is None else [record.group])
    return _joined(records, _contents)


def related_groups(records: Sequence[Record]) -> NDArray[np.int64]:
    """Group number of each record; records that share content or a group, directly or through others, have one number.

    A record of another number is a positive by none of the criteria of `positive_groups`.

    Args:
        records: All records.
    """
    return _joined(records, lambda record: [*_contents(record), *(() if record.group is None else (record.group,))])


def content_key(value: Any) -> Hashable:
    """Key of a raw value, equal for equal values: the string itself, a digest of anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).digest()
    array = np.ascontiguousarray(value)
    head = f"{array.dtype} {array.shape}".encode()
    return hashlib.blake2b(head + array.tobytes(), digest_size=16).digest()


def _contents(record: Record) -> list[Hashable]:
    return [(tower, content_key(value)) for tower, values in record.values.items() for value in values]


def _joined(records: Sequence[Record], keys: Callable[[Record], Sequence[Hashable]]) -> NDArray[np.int64]:
    """Connected records (union-find): each set is numbered by its first member's index."""
    parents = list(range(len(records)))
    owners: dict[Hashable, int] = {}

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for index, record in enumerate(records):
        for key in keys(record):
            one, other = root(index), root(owners.setdefault(key, index))
            parents[max(one, other)] = min(one, other)
    return np.fromiter((root(index) for index in range(len(records))), dtype=np.int64, count=len(records))
