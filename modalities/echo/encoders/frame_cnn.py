"""A small residual network per frame, then pooling over time."""

from collections.abc import Sequence

import torch

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.conv_blocks import Residual, check, kaiming_, stages, stem
from modalities.common.encoders.temporal_pooling import TemporalPool
from modalities.echo.transform import EchoTransform, Normalise


class Frames(Encoder):
    """A two-dimensional residual network per frame with pooling over time: the fastest encoder of clips.

    Args:
        transform: The transform; gives mean and standard deviation.
        width: Channels of the first stage; each further stage has twice as many.
        depths: Residual blocks of each stage.
        pool: Pooling over time: mean or attention.
        layers: Layers of a transformer over the frames before pooling; with 0 their order is ignored.
        heads: Attention heads; must divide `width * 2 ** (stages - 1)`.

    Shape:
        `frames (batch, time, size, size)` -> vector `(batch, width * 2 ** (stages - 1))`, a token for each frame.

    Example:
        >>> from modalities.echo import MODALITY
        >>> transform = MODALITY.transform("frames", {})
        >>> MODALITY.encoder("frames", transform, width=8).width
        64
    """

    def __init__(
        self,
        transform: EchoTransform,
        *,
        width: int = 16,
        depths: Sequence[int] = (1, 1, 1, 1),
        pool: str = "attention",
        layers: int = 1,
        heads: int = 4,
    ) -> None:
        output_width = check("echo frames", width, depths)
        super().__init__(output_width, token_width=output_width)
        self.arguments = {"width": width, "depths": list(depths), "pool": pool, "layers": layers, "heads": heads}
        self.stride = 1  # frames per token
        self.normalise = Normalise(transform)
        self.stem = stem(width)
        self.stages = stages(width, depths, lambda wide_in, wide_out, stride, _: Residual(wide_in, wide_out, stride))
        self.time = TemporalPool(output_width, pool=pool, layers=layers, heads=heads)
        kaiming_(self)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["frames"]`."""
        mask = inputs["mask"]
        pictures = self.normalise(inputs["frames"]).flatten(0, 1).unsqueeze(1)
        pictures = self.stem(pictures.contiguous(memory_format=torch.channels_last))
        for block in self.stages:
            pictures = block(pictures)
        return self.time(pictures.mean((2, 3)).unflatten(0, mask.shape), mask)  # type: ignore[no-any-return]
