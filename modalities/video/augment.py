"""Training augmentation of a clip, equal for all its frames, and of its map of trajectories alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.common.framing import Framing
from modalities.image.augment import jitter, random_box

ASPECT = 4 / 3
"""Largest change of the aspect ratio of a random crop."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class View:
    """One augmentation of a clip in square frames: a rectangle of them, perhaps mirrored.

    Args:
        box: The rectangle.
        mirrored: Whether left and right are swapped.

    Example:
        >>> view = View((0, 0, 4, 4), mirrored=True)
        >>> view.labels(np.arange(16).reshape(1, 4, 4), 4)[0, 0].tolist()
        [3, 2, 1, 0]
    """

    box: Box
    mirrored: bool = False

    @staticmethod
    def draw(size: int, rng: np.random.Generator, *, random_crop: float, flip: bool) -> "View":
        """Draw a rectangle of random area and aspect ratio, and whether to mirror.

        Args:
            size: Side of the frames in pixels.
            rng: Source of all randomness.
            random_crop: Smallest fraction of the area; 1 = the whole frame.
            flip: Mirror with probability one half.
        """
        box: Box = (0, 0, size, size)
        if random_crop < 1:
            box = random_box((size, size), rng, scale=(random_crop, 1.0), aspect=ASPECT)
        return View(box, flip and rng.random() < 0.5)

    def frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The rectangle in each frame, resized to the whole frame.

        Shape:
            `(time, side, side, 3)` -> the same.
        """
        size = frames.shape[1]
        if self.box != (0, 0, size, size):
            resized = (
                Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, self.box) for frame in frames
            )
            frames = np.stack([np.asarray(picture) for picture in resized])
        return frames[:, :, ::-1] if self.mirrored else frames

    def labels(self, labels: NDArray[np.int_], size: int) -> NDArray[np.int_]:
        """The rectangle in each map of ids, at the centres of `size` x `size` cells.

        Shape:
            `(time, side, side)` -> `(time, size, size)`.
        """
        left, top, right, bottom = self.box
        cells = Framing((top, left, bottom - top, right - left), (size, size), (size, size)).nearest(labels)
        return cells[:, :, ::-1] if self.mirrored else cells


def recoloured(frames: NDArray[np.uint8], rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """Change brightness, contrast and saturation, by the same factors in all frames."""
    return jitter(frames, rng, strength)
