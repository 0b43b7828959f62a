"""A small residual network trained from scratch, for small data sets and CPUs."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.conv_blocks import check, kaiming_
from modalities.image.transform import ImageTransform, Normalise


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, as in He et al. 2016; a stride halves the feature map.

    The shortcut averages before it projects (He et al. 2019, ResNet-D), so that no pixel is skipped.
    """

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(wide_in, wide_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(wide_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide_out, wide_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide_out),
        )
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        if wide_in != wide_out:
            shortcut += [nn.Conv2d(wide_in, wide_out, 1, bias=False), nn.BatchNorm2d(wide_out)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Add body and shortcut."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ConvNet(Encoder):
    """A residual network: a stem that halves the image, then stages that each halve it and double the channels.

    Args:
        transform: The fitted transform; defines size, mean and standard deviation.
        width: Channels of the stem; stage i has `width * 2 ** (i + 1)`.
        depths: Residual blocks of each stage.
        size: Image size in pixels, checked against the transform's; None = the transform's.

    Shape:
        `pixels (batch, 3, size, size)` uint8 -> vector `(batch, width * 2 ** stages)`, one token for each position of
        the last feature map, row by row.

    Raises:
        UserError: the width is below 2, or a stage has no block.

    Example:
        >>> from modalities.image import MODALITY
        >>> transform = MODALITY.transform("convnet", {"size": 32})
        >>> MODALITY.encoder("convnet", transform, width=8).width
        64
    """

    def __init__(
        self, transform: ImageTransform, *, width: int = 24, depths: Sequence[int] = (1, 1, 1), size: int | None = None
    ) -> None:
        check("image convnet", width, depths)
        widths = [width * 2**stage for stage in range(len(depths) + 1)]
        super().__init__(widths[-1], token_width=widths[-1])
        self.arguments = {"width": width, "depths": list(depths), "size": transform.checked_size(size)}
        self.normalise = Normalise(transform)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        blocks = []
        for depth, (wide_in, wide_out) in zip(depths, pairwise(widths), strict=True):
            blocks += [
                Residual(wide_in if block == 0 else wide_out, wide_out, 2 if block == 0 else 1)
                for block in range(depth)
            ]
        self.stages = nn.Sequential(*blocks)
        kaiming_(self)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["pixels"]`."""
        grid = self.stages(self.stem(self.normalise(inputs["pixels"])))
        tokens = grid.flatten(2).transpose(1, 2)  # (batch, positions, width)
        return Features(tokens.mean(1), Tokens(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool)))
