"""Parts of convolutional encoders; most work on frames, `(batch * time, channels, height, width)`."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmalign.errors import UserError


def norm(width: int) -> nn.GroupNorm:
    """Group norm, computed per sample or frame, so that it does not depend on padding or the rest of the batch."""
    return nn.GroupNorm(next(count for count in (8, 4, 2, 1) if width % count == 0), width)


def convolution(wide_in: int, wide_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A spatial convolution and its norm."""
    return nn.Sequential(nn.Conv2d(wide_in, wide_out, kernel, stride, padding=kernel // 2, bias=False), norm(wide_out))


class Residual(nn.Module):
    """A body and a shortcut that averages before it projects (ResNet-D, He et al. 2019, arXiv 1812.01187)."""

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(wide_in, wide_out, 3, stride)
        self.second = convolution(wide_out, wide_out, 3)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        if wide_in != wide_out:
            shortcut.append(convolution(wide_in, wide_out, 1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Add body and shortcut."""
        return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))


def stem(width: int, channels: int = 1) -> nn.Sequential:
    """Downsampling by four: a 5x5 convolution of stride 2, then 2x2 max pooling; `channels` is 1 for grey frames."""
    return nn.Sequential(convolution(channels, width, 5, 2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))


def stages(width: int, depths: Sequence[int], make: Callable[[int, int, int, bool], nn.Module]) -> nn.ModuleList:
    """A sequence of blocks: each stage has twice the channels of the previous one and half its size.

    Args:
        width: Channels of the first stage.
        depths: Blocks of each stage.
        make: Channels in, channels out, stride, whether it is the first block of a later stage -> a block.
    """
    blocks, wide_in = [], width
    for stage, depth in enumerate(depths):
        for block in range(depth):
            begins = stage > 0 and block == 0
            blocks.append(make(wide_in, width * 2**stage, 2 if begins else 1, begins))
            wide_in = width * 2**stage
    return nn.ModuleList(blocks)


def check(name: str, width: int, depths: Sequence[int]) -> int:
    """Check width and depths; returns the number of channels of the last stage.

    Args:
        name: The encoder, for messages: "echo frames".
        width: Channels of the first stage.
        depths: Blocks of each stage.

    Raises:
        UserError: width or depths are invalid.
    """
    if not depths or min(depths) < 1 or width < 2:
        raise UserError(
            f"{name}: expected depths of at least 1 and a width of at least 2, "
            f"got depths={list(depths)} and width={width}"
        )
    return int(width * 2 ** (len(depths) - 1))


def kaiming_(module: nn.Module) -> None:
    """Kaiming initialisation of every convolution in a network (He et al. 2015, arXiv 1502.01852)."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
