"""Ragged rows: sparse features as embedding bags (n-grams, fingerprints), and padding of rows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmalign.types import Inputs


def bag_inputs(bins: NDArray[np.int32], weights: NDArray[np.float32], owners: NDArray[np.int32], count: int) -> Inputs:
    """The tensors of `count` bags: `bins (F,)`, `weights (F,)`, `starts (count,)`.

    Args:
        bins: Row indices of the table, bag by bag.
        weights: Weight of each.
        owners: Index of the bag of each, ascending; a bag may be empty.
        count: Number of bags.

    Example:
        >>> result = bag_inputs(np.array([4, 7, 4]), np.ones(3, np.float32), np.array([0, 2, 2]), 3)
        >>> result["starts"]
        tensor([0, 1, 1])
    """
    return {
        "bins": torch.from_numpy(bins.astype(np.int64)),
        "weights": torch.from_numpy(weights.astype(np.float32)),
        "starts": torch.from_numpy(np.searchsorted(owners, np.arange(count)).astype(np.int64)),
    }


def bag_sums(table: Tensor, inputs: Inputs) -> Tensor:
    """Each bag's weighted sum of the table's rows, `(bags, width)`; zeros for an empty bag."""
    weights = inputs["weights"].to(table.dtype)
    return F.embedding_bag(inputs["bins"], table, inputs["starts"], mode="sum", per_sample_weights=weights)


def bag_matrix(inputs: Inputs, rows: Tensor, count: int, size: int) -> Tensor:
    """Bags as a sparse matrix, `(count, size)` COO; `rows (bags,)` is the row that each bag is added to.

    Example:
        >>> inputs = bag_inputs(np.array([1, 0]), np.array([2.0, 3.0], np.float32), np.array([0, 1]), 2)
        >>> bag_matrix(inputs, torch.tensor([0, 0]), 1, 2).to_dense()
        tensor([[3., 2.]])
    """
    total = inputs["bins"].new_tensor([inputs["bins"].shape[0]])
    lengths = torch.diff(torch.cat((inputs["starts"], total)))
    indices = torch.stack((rows.repeat_interleave(lengths), inputs["bins"]))
    return torch.sparse_coo_tensor(indices, inputs["weights"], (count, size), check_invariants=False).coalesce()


def padded_slots(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each entry in the flattened rows, padded to the longest.

    Example:
        >>> padded_slots(np.array([1, 3, 2]))
        array([0, 3, 4, 5, 6, 7])
    """
    padding: NDArray[np.int64] = np.arange(len(lengths)) * lengths.max() - (np.cumsum(lengths) - lengths)
    return np.arange(int(lengths.sum())) + np.repeat(padding, lengths)


def padded_mask(lengths: NDArray[np.int64]) -> Tensor:
    """The mask of these rows, `(rows, longest)`, True = real."""
    return torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
