"""A one-dimensional residual network over the twelve leads."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.conv_blocks import check, kaiming_, norm, stages
from modalities.common.encoders.masking import hidden_tokens
from modalities.common.encoders.transformer import masked_mean
from modalities.ecg.features.beats import beat_tokens
from modalities.ecg.sample import LEADS
from modalities.ecg.transform import EcgTransform


def _convolution(wide_in: int, wide_out: int, kernel: int, stride: int = 1, *, act: bool = True) -> nn.Sequential:
    convolution = nn.Conv1d(wide_in, wide_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, norm(wide_out), *([nn.ReLU()] if act else []))


class Residual(nn.Module):
    """Two convolutions and a shortcut that averages before it projects (ResNet-D, He et al. 2019)."""

    def __init__(self, wide_in: int, wide_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(wide_in, wide_out, kernel, stride), _convolution(wide_out, wide_out, kernel, act=False)
        )
        shortcut: list[nn.Module] = [nn.AvgPool1d(stride, ceil_mode=True)] if stride > 1 else []
        if wide_in != wide_out:
            shortcut.append(_convolution(wide_in, wide_out, 1, act=False))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Add body and shortcut."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(Encoder):
    """Residual network with the three-convolution stem of xresnet (He et al. 2019, arXiv 1812.01187) in one dimension.

    The best kind on PTB-XL (Strodthoff et al. 2020, arXiv 2004.13701), with group norm instead of batch norm. Missing
    leads are rows of zeros, as with lead dropout in training; train with it to use few leads.

    Args:
        transform: The transform; defines the length.
        width: Channels of the stem and of the first stage; each further stage has twice as many.
        depths: Residual blocks of each stage.
        kernel: Kernel size of a convolution in samples, odd.
        beats: Return heart beats as parts.

    Shape:
        `signal (batch, 12, time)` -> vector `(batch, width * 2 ** (stages - 1))`, a token for each place of the last
        map, `4 * 2 ** (stages - 1)` samples apart.

    Example:
        >>> from modalities.ecg import MODALITY
        >>> transform = MODALITY.transform("resnet", {})
        >>> MODALITY.encoder("resnet", transform, width=8).width
        64
    """

    def __init__(
        self,
        transform: EcgTransform,
        *,
        width: int = 32,
        depths: Sequence[int] = (1, 1, 1, 1),
        kernel: int = 5,
        beats: bool = False,
    ) -> None:
        output_width = check("ecg resnet", width, depths)
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"ecg resnet: expected an odd kernel, got kernel={kernel}")
        stride = 4 * 2 ** (len(depths) - 1)
        super().__init__(output_width, token_width=output_width, part_width=output_width if beats else None)
        self.target_width = len(LEADS) * stride
        need_beats(transform, beats)
        self.stride = stride
        self.arguments = {"width": width, "depths": list(depths), "kernel": kernel, "beats": beats}
        self.stem = nn.Sequential(
            _convolution(len(LEADS), width // 2, kernel, 2),
            _convolution(width // 2, width // 2, kernel),
            _convolution(width // 2, width, kernel),
            nn.MaxPool1d(3, 2, padding=1),
        )

        def make(wide_in: int, wide_out: int, stride: int, _: bool) -> nn.Module:
            return Residual(wide_in, wide_out, kernel, stride)

        self.stages = nn.Sequential(*stages(width, depths, make))
        kaiming_(self)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["signal"]`."""
        signal = inputs["signal"] * inputs["lead_mask"].unsqueeze(-1)
        values = self.stages(self.stem(signal)).transpose(1, 2)  # (batch, steps, width)
        tokens = Tokens(values, steps_mask(inputs["time_mask"], self.stride))
        parts = beat_tokens(tokens, inputs, self.stride) if self.part_width is not None else None
        return Features(masked_mean(values, tokens.mask), tokens, parts)

    def mask_inputs(
        self, inputs: Inputs, mask_ratio: float, generator: Generator | None = None
    ) -> tuple[Inputs, Tokens]:
        """Mask random segments of time in all leads with zeros; a segment is one position of the last feature map."""
        signal: Tensor = inputs["signal"] * inputs["lead_mask"].unsqueeze(-1)
        pieces = torch.unflatten(F.pad(signal, (0, -signal.shape[2] % self.stride)), 2, (-1, self.stride))
        hidden = hidden_tokens(steps_mask(inputs["time_mask"], self.stride), mask_ratio, generator)
        shown = pieces.masked_fill(hidden[:, None, :, None], 0.0).flatten(2)
        seen = {**inputs, "signal": shown[:, :, : signal.shape[2]]}
        return seen, Tokens(pieces.transpose(1, 2).flatten(2), hidden)


def steps_mask(time_mask: Tensor, stride: int) -> Tensor:
    """True for each segment of `stride` samples with a real one, `(batch, steps)`."""
    missing = -time_mask.shape[1] % stride
    return torch.unflatten(F.pad(time_mask, (0, missing)), 1, (-1, stride)).any(2)


def need_beats(transform: EcgTransform, beats: bool) -> None:
    """Check that the transform detects beats if the encoder returns them.

    Raises:
        UserError: it does not.
    """
    if beats and not transform.settings.beats:
        raise UserError(
            "ecg: the encoder returns beats, its transform does not detect them: set transform: {beats: true}"
        )
