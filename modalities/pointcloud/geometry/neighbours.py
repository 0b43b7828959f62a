"""Nearest neighbours in batched clouds: a k-d tree on the CPU, distances in blocks elsewhere."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from modalities.pointcloud.geometry.selection import Selection, checked_clouds

BLOCK_VALUES = 1 << 22
"""Distances that exist at once, 16 MB of float32."""

TREE_WIDTH = 8
"""Largest number of coordinates for which a k-d tree is built: with more it looks at every point."""


def nearest_neighbours(
    points: Tensor,
    queries: Tensor,
    count: int,
    *,
    mask: Tensor | None = None,
    radius: float | None = None,
    tree: bool | None = None,
) -> Selection:
    """Find the nearest points of each query, nearest first; with `radius`, the ball query of PointNet++.

    Unlike the released ball query, which takes the first points in order within the radius, this one takes the nearest:
    the result does not depend on the order of the points, except among equally distant ones. Memory is bounded by
    blocks of `BLOCK_VALUES` distances.

    Args:
        points: Coordinates, `(batch, points, width)`; distances are computed in float32, of float64 in float64.
        queries: Coordinates, `(batch, queries, width)`; all are answered, also padded ones.
        count: Neighbours of each query.
        mask: True = real point, `(batch, points)`; others are never neighbours. None = all are real.
        radius: Largest distance of a neighbour; None = no limit.
        tree: Use a k-d tree (SciPy, on the CPU). None = on the CPU, for up to `TREE_WIDTH` coordinates.

    Returns:
        `(batch, queries, count)` indices and mask. Where a query has fewer neighbours than `count`, its nearest one
        is repeated, mask False; index 0 where it has none.

    Raises:
        ValueError: a shape, a type, the count or the radius is wrong.

    Example:
        >>> line = torch.tensor([[[0.0], [1.0], [5.0]]])
        >>> nearest_neighbours(line, torch.tensor([[[0.9]]]), 2).indices
        tensor([[[1, 0]]])
    """
    values, real = checked_clouds(points, mask, "nearest_neighbours")
    asked, _ = checked_clouds(queries, None, "nearest_neighbours")
    if asked.shape[0] != values.shape[0] or asked.shape[2] != values.shape[2]:
        raise ValueError(
            f"nearest_neighbours: expected queries ({values.shape[0]}, n, {values.shape[2]}), got {tuple(asked.shape)}"
        )
    if count < 1:
        raise ValueError(f"nearest_neighbours: expected a count of at least 1, got {count}")
    if radius is not None and not radius > 0:
        raise ValueError(f"nearest_neighbours: expected a positive radius, got {radius}")
    limit = torch.inf if radius is None else radius
    if tree is None:
        tree = values.device.type == "cpu" and values.shape[2] <= TREE_WIDTH and not torch.compiler.is_exporting()
    indices = _by_tree(values, asked, count, real, limit) if tree else _by_blocks(values, asked, count, real, limit)
    valid = indices >= 0
    return Selection(torch.where(valid, indices, indices[..., :1].clamp(min=0)), valid)


def _by_tree(points: Tensor, queries: Tensor, count: int, mask: Tensor, limit: float) -> Tensor:
    """One tree for each cloud; -1 = no neighbour."""
    from scipy.spatial import cKDTree  # here, so that `mmalign list` need not load SciPy

    indices = np.full((*queries.shape[:2], count), -1, np.int64)
    clouds = zip(points.cpu().numpy(), queries.cpu().numpy(), mask.cpu().numpy(), strict=True)
    for row, (cloud, asked, real) in enumerate(clouds):
        rows_of = None if real.all() else np.flatnonzero(real)
        held = cloud if rows_of is None else cloud[rows_of]
        if not len(held):
            continue
        columns = min(count, len(held))
        # SciPy excludes the bound itself.
        bound = np.nextafter(limit, np.inf)
        _, nearest = cKDTree(held).query(asked, k=np.arange(1, columns + 1), distance_upper_bound=bound)
        if limit < np.inf:
            nearest[nearest == len(held)] = -1
        indices[row, :, :columns] = nearest if rows_of is None else np.where(nearest >= 0, rows_of[nearest], -1)
    return torch.from_numpy(indices).to(points.device)


def _by_blocks(points: Tensor, queries: Tensor, count: int, mask: Tensor, limit: float) -> Tensor:
    """All distances of a block of queries, by differences: exact also far from the origin; -1 = no neighbour."""
    batch, size, _ = points.shape
    indices = torch.full((batch, queries.shape[1], count), -1, dtype=torch.int64, device=points.device)
    columns = min(count, size)
    if torch.compiler.is_exporting():  # a traced program has one block, of any number of clouds
        distance = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
        near, nearest = distance.masked_fill(~mask[:, None], torch.inf).topk(columns, largest=False)
        return F.pad(nearest.masked_fill((near > limit) | near.isinf(), -1), (0, count - columns), value=-1)
    clouds = max(1, min(batch, BLOCK_VALUES // size))
    step = max(1, BLOCK_VALUES // (clouds * size))
    for row in range(0, batch, clouds):
        rows = slice(row, row + clouds)
        for first in range(0, queries.shape[1], step):
            part = slice(first, first + step)
            distance = torch.cdist(
                queries[rows, part], points[rows], compute_mode="donot_use_mm_for_euclid_dist"
            ).masked_fill_(~mask[rows, None], torch.inf)
            near, nearest = distance.topk(columns, largest=False)
            indices[rows, part, :columns] = nearest.masked_fill_((near > limit) | near.isinf(), -1)
    return indices
