"""PointNet++: two levels of local groups, then the whole cloud."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.pointcloud.encoders.groups import demand_groups, group_points
from modalities.pointcloud.transform import PointCloudTransform


class PointNet2(Encoder):
    """Two levels of groups, a perceptron and a maximum each, then one of all (Qi et al. 2017, arXiv 1706.02413).

    The plain baseline: single-scale grouping of the paper's classification network, layer norm of each point in place
    of batch norm. A group holds the nearest points within its radius, where the release takes the first in order.

    Args:
        transform: The transform; gives the channels of a point.
        width: Channels of the first level; the vector has eight times as many. Published: 128.
        groups: Groups of the two levels. Published: 512 and 128.
        sizes: Points of a group of the two levels. Published: 32 and 64.
        radii: Radius of a group of the two levels, of clouds within the unit sphere.

    Shape:
        `points (batch, n, 3)`, `mask (batch, n)` -> vector `(batch, 8 * width)`, tokens
        `(batch, groups[1], 2 * width)`.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> MODALITY.encoder("pointnet2", MODALITY.transform("pointnet2", {}), width=8).width
        64
    """

    def __init__(
        self,
        transform: PointCloudTransform,
        *,
        width: int = 32,
        groups: tuple[int, int] = (256, 64),
        sizes: tuple[int, int] = (16, 16),
        radii: tuple[float, float] = (0.2, 0.4),
    ) -> None:
        super().__init__(8 * width, token_width=2 * width)
        for name, pair in {"groups": groups, "sizes": sizes, "radii": radii}.items():
            if len(pair) != 2 or min(pair) <= 0:
                raise UserError(f"pointcloud pointnet2: expected two positive numbers for {name}, got {list(pair)}")
        for count, size in zip(groups, sizes, strict=True):
            demand_groups("pointnet2", count, size)
        self.width_of_first, self.groups, self.sizes, self.radii = width, list(groups), list(sizes), list(radii)
        self.first = perceptron(transform.channels, width // 2, width // 2, width)
        self.second = perceptron(3 + width, width, width, 2 * width)
        self.whole = perceptron(3 + 2 * width, 2 * width, 4 * width, 8 * width)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["points"]`."""
        first = group_points(inputs, self.groups[0], self.sizes[0], radius=self.radii[0])
        values = self.first(first.patches).amax(2)  # (batch, groups, width)
        # The groups of the first level are the points of the second; what they carry takes the place of attributes.
        level = {"points": first.centres, "mask": first.mask, "colours": values}
        second = group_points(level, self.groups[1], self.sizes[1], radius=self.radii[1])
        tokens = self.second(second.patches).amax(2)
        mask = second.mask[:, :, None]
        low = torch.finfo(tokens.dtype).min
        every = self.whole(torch.cat([second.centres, tokens], dim=2)).masked_fill(~mask, low)
        return Features(every.amax(1).masked_fill(~mask.any(1), 0.0), Tokens(tokens, second.mask))

    def config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "width": self.width_of_first, "groups": self.groups, "sizes": self.sizes, "radii": self.radii,
        }  # fmt: skip


def perceptron(*widths: int) -> nn.Sequential:
    """Linear, layer norm, ReLU for each step from one width to the next."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.LayerNorm(wide_out), nn.ReLU()]
    return nn.Sequential(*layers)
