"""R(2+1)D: a residual network with alternating spatial and temporal convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.conv_blocks import check, convolution, kaiming_, norm, stages, stem
from modalities.common.encoders.transformer import masked_mean
from modalities.echo.transform import EchoTransform, Normalise


class OverTime(nn.Module):
    """A temporal convolution over three frames, as a 1x1 convolution of their concatenation, and its norm.

    Frames before the first real one, after the last one, and masked ones are zero.

    Shape:
        `(batch * time, channels, height, width)` -> the same, with half as many frames for stride 2.
    """

    def __init__(self, wide_in: int, wide_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.mix = nn.Conv2d(3 * wide_in, wide_out, 1, bias=False)
        self.norm = norm(wide_out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Convolve; `mask (batch, time)` is that of the input."""
        clips = torch.unflatten(x * mask.flatten()[:, None, None, None], 0, mask.shape)
        around = F.pad(clips, (0, 0, 0, 0, 0, 0, 1, 1))  # a frame of zeros on both ends
        time = mask.shape[1]
        three = torch.cat([around[:, start : start + time : self.stride] for start in range(3)], dim=2)
        # Channels last, as in the convolutions before and after it.
        return self.norm(self.mix(three.flatten(0, 1).contiguous(memory_format=torch.channels_last)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Spatial, temporal, spatial and temporal convolution, and a shortcut that averages before it projects."""

    def __init__(self, wide_in: int, wide_out: int, stride: int, *, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.space_one, self.time_one = convolution(wide_in, wide_out, 3, stride), OverTime(wide_out, wide_out)
        self.space_two = convolution(wide_out, wide_out, 3)
        self.time_two = OverTime(wide_out, wide_out, 2 if halve else 1)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
        if wide_in != wide_out:
            shortcut.append(convolution(wide_in, wide_out, 1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Add body and shortcut; also returns the mask of the output."""
        body = torch.relu(self.time_one(torch.relu(self.space_one(x)), mask))
        body = self.time_two(torch.relu(self.space_two(body)), mask)
        if self.halve:
            x, mask = torch.unflatten(x, 0, mask.shape)[:, ::2].flatten(0, 1), mask[:, ::2]
        return torch.relu(body + self.shortcut(x)), mask


class R2Plus1d(Encoder):
    """A small R(2+1)D with factorised space-time convolutions (Tran et al. 2018, arXiv 1711.11248).

    Differences: group norm per frame instead of batch norm, so that the result does not depend on padding and the rest
    of the batch; the same channels between the two convolutions as around them; the temporal convolution halves time.

    Args:
        transform: The transform; gives mean and standard deviation.
        width: Channels of the first stage; each further stage has twice as many.
        depths: Residual blocks of each stage; the later stages halve height and width.
        halvings: Number of stages after the first that also halve time, 0 to all of them.

    Shape:
        `frames (batch, time, size, size)` -> vector `(batch, width * 2 ** (stages - 1))`, a token for each
        `2 ** halvings` frames.

    Example:
        >>> from modalities.echo import MODALITY
        >>> transform = MODALITY.transform("r2plus1d", {})
        >>> MODALITY.encoder("r2plus1d", transform, width=8).width
        64
    """

    def __init__(
        self,
        transform: EchoTransform,
        *,
        width: int = 16,
        depths: Sequence[int] = (1, 1, 1, 1),
        halvings: int = 2,
    ) -> None:
        output_width = check("echo r2plus1d", width, depths)
        if not 0 <= halvings < len(depths):
            raise UserError(f"echo r2plus1d: halvings must be in 0..{len(depths) - 1}, got {halvings}")
        super().__init__(output_width, token_width=output_width)
        self.arguments = {"width": width, "depths": list(depths), "halvings": halvings}
        self.stride = 2**halvings  # frames per token
        self.normalise = Normalise(transform)
        self.stem = stem(width)
        left = iter(range(halvings))

        def make(wide_in: int, wide_out: int, stride: int, begins: bool) -> nn.Module:
            return Block(wide_in, wide_out, stride, halve=begins and next(left, None) is not None)

        self.stages = stages(width, depths, make)
        kaiming_(self)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["frames"]`."""
        mask = inputs["mask"]
        pictures = self.normalise(inputs["frames"]).flatten(0, 1).unsqueeze(1)
        pictures = self.stem(pictures.contiguous(memory_format=torch.channels_last))
        for block in self.stages:
            pictures, mask = block(pictures, mask)
        values = pictures.mean((2, 3)).unflatten(0, mask.shape)
        return Features(masked_mean(values, mask), Tokens(values, mask))
