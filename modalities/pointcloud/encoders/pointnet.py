"""PointNet: one small network for each point, then the maximum (Qi et al. 2017a), without its alignment networks."""

from typing import Any

import torch
from torch import Tensor, nn

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.pointcloud.transform import PointCloudTransform


class PointNet(Encoder):
    """Points through a shared network with layer normalisation, pooled by mean and maximum; padding is never read.

    Args:
        transform: The tower's; its `colours` and `normals` widen the input.
        width: Size of the vector.
        hidden: Width of the shared network.
    """

    def __init__(self, transform: PointCloudTransform, *, width: int = 256, hidden: int = 128) -> None:
        super().__init__(width)
        self.hidden = hidden
        self.inputs = input_names(transform)
        self.points = nn.Sequential(
            nn.Linear(3 * len(self.inputs), hidden // 2),
            nn.GELU(),
            nn.Linear(hidden // 2, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
        )
        self.project = nn.Sequential(nn.LayerNorm(2 * hidden), nn.Linear(2 * hidden, width))

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch."""
        mask: Tensor = inputs["mask"][..., None]
        values = self.points(torch.cat([inputs[name] for name in self.inputs], dim=2))
        values = values.float()  # sums over a thousand points
        mean = values.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)
        highest = values.masked_fill(~mask, -torch.inf).amax(1)
        return Features(self.project(torch.cat([mean, highest], dim=1)).float())

    def config(self) -> dict[str, Any]:
        """The architecture."""
        return {"width": self.width, "hidden": self.hidden}


def input_names(transform: PointCloudTransform) -> list[str]:
    """The arrays of three numbers for each point that an encoder takes, in order."""
    settings = transform.settings
    return ["points", *(["colours"] if settings.colours else []), *(["normals"] if settings.normals else [])]
