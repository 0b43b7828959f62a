"""Chamfer distance between batched clouds."""

import torch
from torch import Tensor

from modalities.pointcloud.geometry.neighbours import nearest_neighbours
from modalities.pointcloud.geometry.selection import take_points

NORMS = ("l2", "l1")
SMALL_SET = 256
"""Number of points up to which all distances are computed: a tree for each small set costs more."""


def chamfer_distance(
    a: Tensor, b: Tensor, *, mask_a: Tensor | None = None, mask_b: Tensor | None = None, norm: str = "l2"
) -> Tensor:
    """Chamfer distance of each pair of clouds, with the two definitions of the Point-MAE family.

    `l2 = mean_a min_b |a - b|^2 + mean_b min_a |a - b|^2`, `l1 = (mean_a min_b |a - b| + mean_b min_a |a - b|) / 2`
    (Fan et al. 2017; Yu et al. 2021 for the factors). The gradient flows through the distances of the nearest pairs,
    which is the exact gradient wherever it exists; at coincident points that of `l1` is 0. No matrix of distances is
    kept for the backward pass.

    Args:
        a: Coordinates, `(batch, n, width)`.
        b: Coordinates, `(batch, m, width)`.
        mask_a: True = real point of `a`, `(batch, n)`; None = all are real.
        mask_b: True = real point of `b`, `(batch, m)`; None = all are real.
        norm: l2 (squared distances) or l1 (distances).

    Returns:
        One distance for each pair, `(batch,)`; 0 with a gradient of 0 where a cloud has no real point.

    Raises:
        ValueError: a shape, a type or the norm is wrong.

    Example:
        >>> a = torch.zeros(1, 2, 3)
        >>> b = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]])
        >>> chamfer_distance(a, b), chamfer_distance(a, b, norm="l1")
        (tensor([3.5000]), tensor([1.2500]))
    """
    if norm not in NORMS:
        raise ValueError(f"chamfer_distance: expected a norm of {', '.join(NORMS)}, got {norm!r}")
    there, back = _one_way(a, b, mask_a, mask_b, norm), _one_way(b, a, mask_b, mask_a, norm)
    return there + back if norm == "l2" else (there + back) / 2


def _one_way(a: Tensor, b: Tensor, mask_a: Tensor | None, mask_b: Tensor | None, norm: str) -> Tensor:
    """Mean over the real points of `a` of the distance to the nearest real point of `b`, `(batch,)`."""
    tree = None if b.shape[1] > SMALL_SET else False
    indices, valid = nearest_neighbours(b, a, 1, mask=mask_b, tree=tree)
    real = valid[..., 0] if mask_a is None else valid[..., 0] & mask_a
    # In float32 at least: squares of half-precision coordinates lose what a reconstruction is about.
    dtype = torch.float64 if a.dtype == torch.float64 else torch.float32
    difference = a.to(dtype) - take_points(b.to(dtype), indices[..., 0])
    squared = difference.masked_fill(~real[..., None], 0.0).square().sum(2)
    if norm == "l1":
        apart = squared > 0  # the root has no finite derivative at 0
        squared = torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)
    return squared.sum(1) / real.sum(1).clamp(min=1)
