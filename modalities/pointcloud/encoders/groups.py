"""Local groups of points: centres spread over the cloud, and the nearest points of each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.types import Inputs
from modalities.pointcloud.geometry import ball_query, farthest_point_sampling, nearest_neighbours, take_points

ATTRIBUTES = ("colours", "normals")
"""What a point may carry beside its place, three numbers each, in the order of the channels."""

MAX_GROUPED = 1 << 20
"""Maximum number of points in all groups of a cloud; published models have up to 512 groups of 32."""


@dataclass(frozen=True)
class Groups:
    """Groups of a batch of clouds.

    Args:
        centres: Where each group is, `(batch, groups, 3)`.
        patches: Its points, nearest first, relative to the centre, then their attributes,
            `(batch, groups, size, channels)`. A group of fewer points repeats its nearest one: no maximum changes.
        mask: True = real, `(batch, groups)`: a cloud of fewer points has fewer groups.
    """

    centres: Tensor
    patches: Tensor
    mask: Tensor

    def take(self, chosen: Tensor) -> "Groups":
        """Take groups of each cloud by index, `(batch, count)`."""
        rows = torch.arange(chosen.shape[0], device=chosen.device)[:, None]
        return Groups(self.centres[rows, chosen], self.patches[rows, chosen], self.mask[rows, chosen])


def demand_groups(encoder: str, groups: int, size: int) -> None:
    """Refuse numbers of groups and of points in each that are none, or more than memory holds.

    Raises:
        UserError: they are below 1, or their product is above `MAX_GROUPED`.
    """
    if min(groups, size) < 1 or groups * size > MAX_GROUPED:
        raise UserError(
            f"pointcloud {encoder}: expected groups and points in each of at least 1, and at most {MAX_GROUPED} points "
            f"in all groups, got {groups} and {size}"
        )


def group_points(inputs: Inputs, count: int, size: int, *, radius: float | None = None, nearest: bool = True) -> Groups:
    """Cut clouds into overlapping groups, as Point-BERT and Point-MAE do (arXiv 2111.14819, section 3.1).

    Centres are chosen by farthest point sampling that starts at the point farthest from the centroid, so that the order
    of the points changes nothing.

    Args:
        inputs: `points (batch, n, 3)` and `mask (batch, n)`; `colours` and `normals` of the points' shape where a
            transform gives them.
        count: Groups of each cloud.
        size: Points of each group.
        radius: Farthest that a point may be from its centre; None = no limit.
        nearest: Take the nearest points; False, with a radius: the first ones within it, see `ball_query`.

    Example:
        >>> line = torch.arange(8.0)[None, :, None] * torch.tensor([1.0, 0.0, 0.0])
        >>> groups = group_points({"points": line, "mask": torch.ones(1, 8, dtype=torch.bool)}, 2, 3)
        >>> groups.centres[0, :, 0], groups.patches[0, :, :, 0]
        (tensor([0., 7.]), tensor([[ 0.,  1.,  2.],
                [ 0., -1., -2.]]))
    """
    points, real = inputs["points"], inputs["mask"]
    with torch.no_grad():
        chosen = farthest_point_sampling(points, count, mask=real)
        centres = take_points(points, chosen.indices)
        if nearest or radius is None:
            near = nearest_neighbours(points, centres, size, mask=real, radius=radius)
        else:
            near = ball_query(points, centres, size, radius, mask=real)
    flat = near.indices.flatten(1)
    patches = torch.unflatten(take_points(points, flat), 1, (count, size)) - centres[:, :, None]
    taken = [take_points(inputs[name], flat) for name in ATTRIBUTES if name in inputs]
    attributes = [torch.unflatten(values, 1, (count, size)) for values in taken]
    return Groups(centres, torch.cat([patches, *attributes], dim=3), chosen.mask)
