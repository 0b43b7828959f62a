"""A convolutional network per frame, whose stages are summed on the grid of cells."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign import registry
from mmalign.errors import UserError
from modalities.common.encoders.conv_blocks import Residual, check, kaiming_, stages, stem

NETWORKS = ("small", "resnet18", "resnet50")


class SmallStages(nn.Module):
    """A small residual network with group norm, of strides 4, 8, 16, ...

    Args:
        width: Channels of the first stage; each further stage has twice as many.
        depths: Residual blocks of each stage.

    Shape:
        `(frames, 3, height, width)` -> a list of feature maps, the finest first.
    """

    def __init__(self, width: int, depths: Sequence[int]) -> None:
        super().__init__()
        check("video trajvit: cnn_width and cnn_depths", width, depths)
        self.stem = stem(width, channels=3)
        self.blocks = stages(width, depths, lambda wide_in, wide_out, stride, _: Residual(wide_in, wide_out, stride))
        self.ends = [sum(depths[: stage + 1]) - 1 for stage in range(len(depths))]
        self.widths = [width * 2**stage for stage in range(len(depths))]
        kaiming_(self)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Run every stage."""
        maps, x = [], self.stem(pixels.contiguous(memory_format=torch.channels_last))
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                maps.append(x)
        return maps


class FramePyramid(nn.Module):
    """Each stage -> linear -> layer norm -> bilinear to the grid of cells -> sum (TrajViT, arXiv 2505.23617).

    One layer norm serves all stages.

    Args:
        network: small, or resnet18 and resnet50 of timm (from scratch, with batch norm; needs the extra `image`).
        width: Size of the feature of a cell.
        cnn_width: Channels of the first stage of the small network.
        cnn_depths: Residual blocks of each of its stages.

    Shape:
        `(frames, 3, height, width)`, the side of the grid in cells -> `(frames, side, side, width)`.

    Raises:
        UserError: there is no such network, or a width or a depth does not fit.

    Example:
        >>> FramePyramid("small", 16, 8, (1, 1))(torch.zeros(2, 3, 32, 32), 8).shape
        torch.Size([2, 8, 8, 16])
    """

    def __init__(self, network: str, width: int, cnn_width: int, cnn_depths: Sequence[int]) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise UserError(f"video: cnn must be one of {', '.join(NETWORKS)}, got {network!r}")
        self.network, widths = _network(network, cnn_width, cnn_depths)
        self.linear = nn.ModuleList(nn.Linear(channels, width) for channels in widths)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor, grid: int) -> Tensor:
        """Features of the cells."""
        total: Tensor | None = None
        for feature_map, linear in zip(self.network(pixels), self.linear, strict=True):
            values = self.norm(linear(feature_map.permute(0, 2, 3, 1)))
            if values.shape[1] != grid:
                channels_first = values.permute(0, 3, 1, 2)
                finer = values.shape[1] > grid
                values = F.interpolate(channels_first, (grid, grid), mode="bilinear", antialias=finer)
                values = values.permute(0, 2, 3, 1)
            total = values if total is None else total + values
        assert total is not None
        return total


def _network(name: str, width: int, depths: Sequence[int]) -> tuple[nn.Module, list[int]]:
    if name == "small":
        small = SmallStages(width, depths)
        return small, small.widths
    try:
        import timm
    except ModuleNotFoundError as error:
        raise registry.missing_extra("timm", "image") from error
    network: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
    return network, list(network.feature_info.channels())
