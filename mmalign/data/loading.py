"""A data set and the keys of its batches -> a torch loader."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset


def loader(dataset: Dataset[Any], batches: Iterable[Any], workers: int) -> DataLoader[Any]:
    """One batch a key, in order.

    Args:
        dataset: Key -> whole batch.
        batches: The keys; iterated anew at each pass.
        workers: Processes that make batches; 0 = this one.
    """
    return DataLoader(
        dataset,
        batch_size=None,  # a key of `batches` is a whole batch
        sampler=batches,
        collate_fn=_same,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # or each pass would draw from the global one, and a resumed run differ
    )


def _same(batch: Any) -> Any:
    return batch
