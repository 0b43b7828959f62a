"""A transformer over trajectories: segments followed through the frames of a clip."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.image_tower import FrameTransform, image_transform
from modalities.image.transform import Normalise
from modalities.video.encoders.class_token import PooledTransformer
from modalities.video.encoders.codes import FREQUENCIES
from modalities.video.encoders.frame_pyramid import FramePyramid
from modalities.video.encoders.segments import segment_rows
from modalities.video.encoders.trajectory_tokens import TrajectoryTokens

WINDOW = 1 << 21
"""Pixels that the network reads at a time, except in training: bounds the memory for long clips."""


class TrajViT(Encoder):
    """One token for each trajectory: pooled features of a CNN, resampled over time (TrajViT, arXiv 2505.23617).

    The number of tokens is that of the trajectories, whatever the number and the size of the frames. Differences from
    the released code: the layers run once, padded trajectories and absent frames are never read, both coordinates have
    the same frequencies, and any number of frames is valid. The defaults are small enough for a processor; TrajViT is
    `width: 512, depth: 24, heads: 16, cnn: resnet18, resampler_depth: 4`.

    Args:
        transform: The transform; gives mean and standard deviation. It must make trajectories.
        width: Size of a token; even.
        depth: Layers of the transformer over trajectories.
        heads: Attention heads, also of the resamplers; must divide `width`.
        cnn: Network per frame: small, resnet18 or resnet50 (from scratch).
        cnn_width: Channels of the first stage of the small network; each further stage has twice as many.
        cnn_depths: Residual blocks of each of its stages.
        resampler_depth: Layers of a resampler.
        place: Place of a segment in a frame: centroid or box.
        frequencies: Number of frequencies of each coordinate: pi, 2 pi, 4 pi and so on.
        velocity: Also give each row of a trajectory the change of its coordinates per second; not in the paper.
        pool: class (class token) or mean.
        drop_path: Probability that the last layer is skipped in training, less for those before it.

    Shape:
        `frames (batch, time, 3, size, size)` uint8, `mask` and `times (batch, time)`,
        `segments (batch, time, cells, cells)` -> vector `(batch, width)`, parts: trajectories
        `(batch, largest number, width)`, tokens: frames `(batch, time, width)`, the mean of their cells.

    Raises:
        UserError: an argument does not fit, or the transform makes no trajectories.

    Example:
        >>> import numpy as np
        >>> from modalities.video import MODALITY
        >>> transform = MODALITY.transform("trajvit", {}, size=32, tracks="grid", segments=4)
        >>> clip = MODALITY.toy_sample(0, np.random.default_rng(0))
        >>> encoder = MODALITY.encoder("trajvit", transform, width=8, depth=1, heads=2)
        >>> encoder(transform.collate([transform.item(clip)])).parts.values.shape
        torch.Size([1, 4, 8])
    """

    def __init__(
        self,
        transform: FrameTransform,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        cnn: str = "small",
        cnn_width: int = 16,
        cnn_depths: Sequence[int] = (1, 1, 1),
        resampler_depth: int = 2,
        place: str = "centroid",
        frequencies: int = FREQUENCIES,
        velocity: bool = True,
        pool: str = "class",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(width, token_width=width, part_width=width)
        self.arguments = {
            "width": width, "depth": depth, "heads": heads, "cnn": cnn, "cnn_width": cnn_width,
            "cnn_depths": list(cnn_depths), "resampler_depth": resampler_depth, "place": place,
            "frequencies": frequencies, "velocity": velocity, "pool": pool, "drop_path": drop_path,
        }  # fmt: skip
        self.place = place
        self.normalise = Normalise(image_transform(transform))
        self.layers = PooledTransformer(width, depth=depth, heads=heads, pool=pool, drop_path=drop_path)
        self.cells = FramePyramid(cnn, width, cnn_width, cnn_depths)
        self.trajectories = TrajectoryTokens(
            width, heads=heads, depth=resampler_depth, place=place, frequencies=frequencies, velocity=velocity
        )

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["frames"]` and `inputs["segments"]`."""
        if "segments" not in inputs:
            raise UserError(
                "video trajvit: the transform makes no trajectories; set tracks: supervoxels (or masks, ...)"
            )
        mask, segments, means = inputs["mask"], inputs["segments"], list[Tensor]()
        windows = self._windows(inputs["frames"][mask], segments.shape[3], means)  # real frames only
        rows = segment_rows(windows, segments, mask, place=self.place)
        values = rows.padded(self.trajectories(rows, inputs["times"]))
        vector, parts = self.layers(values, rows.present)
        return Features(vector, frame_tokens(torch.cat(means), mask), Tokens(parts, rows.present))

    def _windows(self, frames: Tensor, side: int, means: list[Tensor]) -> Iterator[Tensor]:
        """Features of the cells, window by window; `means` gets those of each frame."""
        # In training, the activations of all frames are kept in any case.
        count = len(frames) if self.training else max(1, WINDOW // (frames.shape[2] * frames.shape[3]))
        for window in torch.split(frames, count):
            features = self.cells(self.normalise(window), side)
            means.append(features.mean((1, 2)))
            yield features


def frame_tokens(means: Tensor, mask: Tensor) -> Tokens:
    """The mean of the cells of each real frame.

    Args:
        means: `(real, channels)`, in the order of the mask.
        mask: True = real frame, `(batch, time)`.
    """
    values = means.new_zeros(*mask.shape, means.shape[1]).masked_scatter(mask[..., None], means)
    return Tokens(values, mask)
