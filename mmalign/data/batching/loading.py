"""torch loader of a data set from the keys of its batches."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mmalign.errors import UserError


class _Loader(DataLoader[Any]):
    """Raises an error that a worker returns as it is, where torch would add the worker's traceback to its message."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def loader(dataset: Dataset[Any], batches: Iterable[Any], workers: int, *, pin: bool = False) -> DataLoader[Any]:
    """A loader that yields one batch per key, in order; a key whose value is a `UserError` raises it.

    Args:
        dataset: Key -> whole batch.
        batches: The keys; iterated again at each pass.
        workers: Number of worker processes; 0 = this process.
        pin: Copy batches to memory from which a GPU copies without waiting.
    """
    return _Loader(
        dataset,
        batch_size=None,  # a key of `batches` is a whole batch
        sampler=batches,
        collate_fn=_same,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        generator=torch.Generator(),  # not the global one, or a resumed run would differ
    )


def _same(batch: Any) -> Any:
    return batch
