"""A vision transformer over space-time patches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.image_tower import FrameTransform, image_transform
from modalities.image.transform import Normalise
from modalities.video.encoders.class_token import PooledTransformer
from modalities.video.encoders.codes import time_code


class ViT3d(Encoder):
    """Tubelets (space-time patches) and a transformer over all of them (ViViT, model 1, arXiv 2103.15691).

    The position of a tubelet is a learnt vector for its place in the frame plus a sinusoidal code of its time in
    seconds, so that the number of frames is free. Masked frames are not read: a tubelet that they complete repeats the
    last real one. The defaults are small enough for a processor; ViT-B is `width: 768, depth: 12, heads: 12`.

    Args:
        transform: The transform; gives size, mean and standard deviation.
        width: Size of a token; even.
        depth: Layers.
        heads: Attention heads; must divide `width`.
        tubelet: Frames and pixels of a tubelet's sides; the pixels must divide the size of the frames.
        pool: class (class token) or mean.
        drop_path: Probability that the last layer is skipped in training, less for those before it.

    Shape:
        `frames (batch, time, 3, size, size)` uint8, `mask` and `times (batch, time)` -> vector `(batch, width)`,
        tokens `(batch, ceil(time / frames of a tubelet) * (size / pixels)^2, width)`, frame by frame and row by row.

    Raises:
        UserError: an argument does not fit.

    Example:
        >>> import numpy as np
        >>> from modalities.video import MODALITY
        >>> transform = MODALITY.transform("vit3d", {}, size=32)
        >>> clip = MODALITY.toy_sample(0, np.random.default_rng(0))
        >>> encoder = MODALITY.encoder("vit3d", transform, width=8, depth=1, heads=2)
        >>> encoder(transform.collate([transform.item(clip)])).tokens.values.shape
        torch.Size([1, 32, 8])
    """

    def __init__(
        self,
        transform: FrameTransform,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        tubelet: Sequence[int] = (2, 16),
        pool: str = "class",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(width, token_width=width)
        if len(tubelet) != 2 or min(tubelet) < 1 or transform.settings.size % tubelet[1]:
            raise UserError(
                f"video vit3d: expected tubelet [frames, pixels] with pixels that divide the size "
                f"{transform.settings.size}, got {list(tubelet)}"
            )
        self.arguments = {
            "width": width, "depth": depth, "heads": heads, "tubelet": list(tubelet), "pool": pool,
            "drop_path": drop_path,
        }  # fmt: skip
        self.frames, pixels = tubelet
        self.side = transform.settings.size // pixels
        self.normalise = Normalise(image_transform(transform))
        self.layers = PooledTransformer(width, depth=depth, heads=heads, pool=pool, drop_path=drop_path)
        self.patches = nn.Conv3d(3, width, (self.frames, pixels, pixels), (self.frames, pixels, pixels))
        self.places = nn.Parameter(torch.randn(self.side**2, width) * 0.02)
        self.times = nn.Linear(width, width)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["frames"]`."""
        frames, mask, times = whole_tubelets(inputs, self.frames)
        pixels = self.normalise(frames.flatten(0, 1)).unflatten(0, mask.shape)
        grid = self.patches(pixels.transpose(1, 2)).flatten(3)  # (batch, width, tubelets, places)
        when = self.times(time_code(torch.unflatten(times, 1, (-1, self.frames)).mean(2), self.width).to(grid.dtype))
        values = grid.permute(0, 2, 3, 1) + self.places + when[:, :, None]
        real = torch.unflatten(mask, 1, (-1, self.frames)).any(2)  # (batch, tubelets)
        real = real.repeat_interleave(self.side**2, dim=1)
        vector, tokens = self.layers(values.flatten(1, 2), real)
        return Features(vector, Tokens(tokens, real))


def whole_tubelets(inputs: Inputs, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, mask and times, with the last real frame in place of masked ones and of those that fill the last tubelet.

    Args:
        inputs: `frames (batch, time, ...)`, `mask (batch, time)` (real frames first) and `times (batch, time)`.
        size: Frames of a tubelet.

    Returns:
        The same with `ceil(time / size) * size` frames; the mask of added ones is False.
    """
    mask: Tensor = inputs["mask"]
    count = -(-mask.shape[1] // size) * size
    last = (mask.sum(1, keepdim=True) - 1).clamp(min=0)
    index = torch.minimum(torch.arange(count, device=mask.device)[None], last)
    rows = torch.arange(mask.shape[0], device=mask.device)[:, None]
    real = torch.nn.functional.pad(mask, (0, count - mask.shape[1]))
    return inputs["frames"][rows, index], real, inputs["times"][rows, index]
