"""The ball query of PointNet++ as released: the first points in order within a radius."""

import torch
from torch import Tensor

from modalities.pointcloud.geometry.neighbours import BLOCK_VALUES
from modalities.pointcloud.geometry.selection import Selection, checked_clouds


def ball_query(points: Tensor, queries: Tensor, count: int, radius: float, *, mask: Tensor | None = None) -> Selection:
    """Find the first points of each cloud that lie within a radius of a query.

    For weights that were trained so: where a ball holds more than `count` points, they are spread over the ball if the
    order of the points is random, while the nearest ones fill its centre. Memory is bounded by blocks of
    `BLOCK_VALUES` distances.

    Args:
        points: Coordinates, `(batch, points, width)`.
        queries: Coordinates, `(batch, queries, width)`.
        count: Most points of each query.
        radius: Largest distance of a point.
        mask: True = real point, `(batch, points)`; None = all are real.

    Returns:
        `(batch, queries, count)` indices, ascending, and mask. Where a ball has fewer points, its first one is
        repeated, mask False; index 0 where it has none.

    Raises:
        ValueError: a shape, the count or the radius is wrong.

    Example:
        >>> line = torch.tensor([[[0.0], [0.6], [0.1], [5.0]]])
        >>> ball_query(line, torch.tensor([[[0.0]]]), 2, 1.0).indices
        tensor([[[0, 1]]])
    """
    values, real = checked_clouds(points, mask, "ball_query")
    asked, _ = checked_clouds(queries, None, "ball_query")
    if asked.shape[0] != values.shape[0] or asked.shape[2] != values.shape[2] or count < 1 or not radius > 0:
        raise ValueError(
            f"ball_query: expected queries ({values.shape[0]}, n, {values.shape[2]}), a count of at least 1 and a "
            f"positive radius, got {tuple(asked.shape)}, {count} and {radius}"
        )
    size = values.shape[1]
    order = torch.arange(size, device=values.device)
    step = max(1, BLOCK_VALUES // (len(values) * size))
    blocks = []
    for block in torch.split(asked, step, dim=1):
        distance = torch.cdist(block, values, compute_mode="donot_use_mm_for_euclid_dist")
        inside = (distance <= radius) & real[:, None]
        first = torch.where(inside, order, size).topk(min(count, size), largest=False).values.sort(dim=2).values
        blocks.append(torch.nn.functional.pad(first, (0, count - first.shape[2]), value=size))
    indices = torch.cat(blocks, dim=1)
    valid = indices < size
    return Selection(torch.where(valid, indices, indices[..., :1].masked_fill(~valid[..., :1], 0)), valid)
