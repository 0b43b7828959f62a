"""How frames of any size become frames of one size; the same rectangle for pictures and for maps of segment ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

CROPS = ("squash", "centre", "pad")


@dataclass(frozen=True)
class Framing:
    """A rectangle of the input, resized to `inner`, in the middle of a black output.

    Args:
        box: Top, left, height and width of the rectangle, in pixels of the input.
        inner: Height and width that it is resized to.
        size: Height and width of the output; at least `inner`.

    Example:
        >>> framing = Framing.square(60, 120, 30, "pad")
        >>> framing.bilinear(np.full((2, 60, 120), 9, np.uint8))[0, 5:10, 0].tolist()
        [0, 0, 9, 9, 9]
    """

    box: tuple[float, float, float, float]
    inner: tuple[int, int]
    size: tuple[int, int]

    @staticmethod
    def square(height: int, width: int, size: int, crop: str) -> "Framing":
        """The whole frame or its middle in a square.

        Args:
            height: Of the input.
            width: Of the input.
            size: Side of the output.
            crop: squash (change the aspect ratio), centre (the middle square) or pad (black bars).
        """
        if crop == "centre":
            length = min(height, width)
            return Framing(((height - length) // 2, (width - length) // 2, length, length), (size, size), (size, size))
        inner = (size, size)
        if crop == "pad":
            longest = max(height, width)
            inner = (max(1, round(size * height / longest)), max(1, round(size * width / longest)))
        return Framing((0, 0, height, width), inner, (size, size))

    def bilinear(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize pictures, with a low-pass filter where they become smaller.

        Shape:
            `(time, height, width)` or `(time, height, width, 3)` -> the same with another height and width. The corners
            of the rectangle must be whole pixels.
        """
        top, left, height, width = map(int, self.box)
        frames = frames[:, top : top + height, left : left + width]
        if frames.shape[1:3] != self.inner:
            colours = frames.ndim == 4
            tensor = torch.from_numpy(np.require(frames, requirements=["C", "W"]))
            tensor = (tensor.permute(0, 3, 1, 2) if colours else tensor[None]).float()
            small = F.interpolate(tensor, self.inner, mode="bilinear", antialias=True).round_().clamp_(0, 255)
            small = small.to(torch.uint8)
            frames = (small.permute(0, 2, 3, 1).contiguous() if colours else small[0]).numpy()
        return self._padded(frames)

    def nearest(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Resize maps of ids: each output pixel has the id at its centre; bars are 0.

        Shape:
            `(time, height, width)` -> the same with another height and width.
        """
        top, left, height, width = self.box
        rows = np.floor(top + (np.arange(self.inner[0]) + 0.5) * height / self.inner[0]).astype(np.int64)
        columns = np.floor(left + (np.arange(self.inner[1]) + 0.5) * width / self.inner[1]).astype(np.int64)
        return self._padded(labels[:, rows[:, None], columns[None, :]])

    def _padded(self, frames: NDArray[Any]) -> NDArray[Any]:
        if self.inner == self.size:
            return frames
        output = np.zeros((len(frames), *self.size, *frames.shape[3:]), frames.dtype)
        top, left = ((whole - part) // 2 for whole, part in zip(self.size, self.inner, strict=True))
        output[:, top : top + self.inner[0], left : left + self.inner[1]] = frames
        return output
