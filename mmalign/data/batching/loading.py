"""torch loader of a data set from the keys of its batches."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset


def loader(dataset: Dataset[Any], batches: Iterable[Any], workers: int) -> DataLoader[Any]:
    """A loader that yields one batch per key, in order.

    Args:
        dataset: Key -> whole batch.
        batches: The keys; iterated again at each pass.
        workers: Number of worker processes; 0 = this process.
    """
    return DataLoader(
        dataset,
        batch_size=None,  # a key of `batches` is a whole batch
        sampler=batches,
        collate_fn=_same,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # not the global one, or a resumed run would differ
    )


def _same(batch: Any) -> Any:
    return batch
