"""Trajectories, space-time patches or frames as the units of an explanation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.errors import UserError
from mmalign.inference import inputs_to
from mmalign.modality import Encoder
from mmalign.types import Inputs
from modalities.common.encoders.image_tower import ImageTower
from modalities.video.encoders.trajtok import TrajTok
from modalities.video.encoders.trajvit import TrajViT
from modalities.video.encoders.vit3d import ViT3d
from modalities.video.sample import Clip
from modalities.video.transform import VideoTransform

DARKEST = 0.25
"""Brightness at weight 0."""

REGIONS = ("upper", "middle", "lower"), ("left", "centre", "right")


@dataclass(frozen=True)
class ClipUnits:
    """The frames that an encoder reads, and the unit of each cell.

    Args:
        clip: The frames, without padding.
        cells: Index of the unit of each cell of a grid over the frame, -1 = none, `(time, rows, columns)`.
    """

    clip: Clip
    cells: NDArray[np.int64]

    def lit(self, weights: Sequence[float]) -> Clip:
        """The clip with full brightness where the unit has the largest weight, and less elsewhere.

        Args:
            weights: One number of at least 0 for each unit.

        Raises:
            UserError: there are fewer weights than units, or one is negative, NaN or infinite.

        Example:
            >>> units = ClipUnits(Clip(np.full((1, 2, 2, 3), 200, np.uint8), 1.0), np.array([[[0, 1], [1, -1]]]))
            >>> units.lit([0.0, 2.0]).frames[0, :, :, 0].tolist()
            [[50, 200], [200, 50]]
        """
        values = np.asarray(weights, dtype=np.float64)
        units = int(self.cells.max(initial=-1)) + 1
        if values.ndim != 1 or len(values) < units or not np.isfinite(values).all() or (values < 0).any():
            raise UserError(f"expected {units} finite weights of at least 0, one for each unit, got {values.shape}")
        light = DARKEST + (1 - DARKEST) * np.append(values, 0.0)[self.cells] / max(values.max(initial=0.0), 1e-12)
        height, width = self.clip.frames.shape[1:3]
        rows = np.arange(height) * self.cells.shape[1] // height
        columns = np.arange(width) * self.cells.shape[2] // width
        lamp = light[:, rows[:, None], columns[None, :], None]
        return Clip((self.clip.frames * lamp).round().astype(np.uint8), self.clip.rate)


def clip_labels(
    sample: Clip, transform: VideoTransform, encoder: Encoder, level: str, count: int
) -> TokenLabels | None:
    """The units of an encoder of this folder, named by their place and time; None for another encoder.

    Args:
        sample: The clip.
        transform: The tower's.
        encoder: The tower's.
        level: tokens or parts.
        count: Number of tokens (or parts) that the encoder returned.
    """
    inputs = transform.collate([transform.item(sample)])
    times = inputs["times"][0][inputs["mask"][0]].numpy()
    cells = _cells(inputs, encoder, level)
    if cells is None:
        return None
    cells = cells[: len(times)]
    frames = inputs["frames"][0, : len(times)].permute(0, 2, 3, 1).numpy()
    rate = 1 / float(times[1] - times[0]) if len(times) > 1 else sample.rate
    units = int(cells.max(initial=-1)) + 1
    if not 0 < units <= count:
        return None
    return TokenLabels(_names(cells, times, units), np.eye(units, count), shown=ClipUnits(Clip(frames, rate), cells))


def _cells(inputs: Inputs, encoder: Encoder, level: str) -> NDArray[np.int64] | None:
    """The unit of each cell, `(time, rows, columns)`."""
    time = inputs["mask"].shape[1]
    if level == "tokens" and isinstance(encoder, TrajViT | TrajTok | ImageTower):
        return np.arange(time)[:, None, None]
    if level == "tokens" and isinstance(encoder, ViT3d):
        cells = np.arange(encoder.side**2).reshape(encoder.side, encoder.side)
        return np.asarray(np.arange(time)[:, None, None] // encoder.frames * encoder.side**2 + cells)
    if level == "parts" and isinstance(encoder, TrajViT):
        return np.asarray(inputs["segments"][0].numpy())
    if level == "parts" and isinstance(encoder, TrajTok):
        with torch.no_grad():
            shares = encoder.assign(inputs_to(inputs, next(encoder.parameters()).device))[0]
        return np.asarray(shares.argmax(3).cpu().numpy())  # the query with the largest share of the cell
    return None


def _names(cells: NDArray[np.int64], times: NDArray[np.float32], units: int) -> list[str]:
    """Place and time of each unit in words, numbered where several share them."""
    rows, columns = cells.shape[1:]
    words = []
    for unit in range(units):
        t, y, x = np.nonzero(cells == unit)
        if not len(t):
            words.append("nowhere")
            continue
        first, last = times[t.min()], times[t.max()]
        when = f"{first:.2f} s" if t.min() == t.max() else f"{first:.2f}-{last:.2f} s"
        if rows == columns == 1:
            words.append(when)
            continue
        centre = (y.mean() + 0.5) / rows, (x.mean() + 0.5) / columns
        where = " ".join(names[min(int(3 * at), 2)] for names, at in zip(REGIONS, centre, strict=True))
        words.append(f"{where} {when}")
    total, seen = Counter(words), Counter[str]()
    for index, word in enumerate(words):
        seen[word] += 1
        words[index] = f"{word} {seen[word]}" if total[word] > 1 else word
    return words
