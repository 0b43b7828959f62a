"""One split of a data set: its records, and its samples as batches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from mmalign import registry
from mmalign.data.batching.batches import ItemBatches
from mmalign.data.batching.loading import loader
from mmalign.data.caching.sample_cache import Samples
from mmalign.data.sources.base import Record
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.types import Inputs


@dataclass(frozen=True)
class Split:
    """The usable records of one split, immutable; decoded samples stay in the data set's cache.

    Args:
        name: train, validation, test, another name of the source, or all.
        indices: Indices of the records in the data set, ascending.
        records: The records.
        towers: The towers of the data.
        store: The decoded samples of the whole data set.

    Example:
        >>> import mmalign
        >>> text = mmalign.modality_of("text", mmalign.TowerConfig())
        >>> data = mmalign.Dataset.open(mmalign.DataConfig("digits"), {"text": text}, splits=["validation"])
        >>> split = data.split("validation")
        >>> len(split) == len(split.records)
        True
    """

    name: str
    indices: tuple[int, ...]
    records: tuple[Record, ...]
    towers: tuple[str, ...]
    store: Samples

    def __len__(self) -> int:
        return len(self.records)

    def take(self, rows: Iterable[int]) -> "Split":
        """Some of the records, by their index in `records`, in the order given."""
        chosen = list(rows)
        return replace(
            self,
            indices=tuple(self.indices[row] for row in chosen),
            records=tuple(self.records[row] for row in chosen),
        )

    def samples(self, tower: str) -> Iterator[Any]:
        """The decoded samples of one tower, every alternative, in order.

        Raises:
            UserError: the data has no such tower.
        """
        self.require(tower)
        for index, record in zip(self.indices, self.records, strict=True):
            for alternative in range(len(record.values.get(tower, ()))):
                yield self.store.get(index, tower, alternative)

    def features(self, tower: str, transform: Transform) -> Iterator[Any]:
        """The features of the samples of one tower, in the order of `samples`; those that fit are cached.

        Raises:
            UserError: the data has no such tower.
        """
        self.require(tower)
        self.store.featurise_many(tower, transform)
        for index, record in zip(self.indices, self.records, strict=True):
            for alternative in range(len(record.values.get(tower, ()))):
                yield self.store.features(index, tower, transform, alternative)

    def batches(self, tower: str, transform: Transform, *, batch_size: int = 64) -> Iterable[tuple[Inputs, Tensor]]:
        """Every alternative of one tower, collated, without augmentation.

        Args:
            tower: Name of the tower.
            transform: Makes and joins the items.
            batch_size: Items a batch.

        Returns:
            Collated inputs, and for each item the index of its record in `records`, `(items,)`.

        Raises:
            UserError: the data has no such tower.
        """
        self.require(tower)
        self.store.featurise_many(tower, transform)
        items = ItemBatches(self.store, tower, transform, self.indices)
        count = len(items.items)
        keys = [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
        return loader(items, keys, self.store.workers)

    def require(self, tower: str) -> None:
        """Raise a `UserError` if the data has no such tower."""
        if tower not in self.towers:
            raise UserError(
                f"the data has no tower {tower!r}{registry.nearest(tower, self.towers)}; "
                f"name its column with --data.columns.{tower} COLUMN"
            )
