"""Training augmentation of images. All randomness comes from the given generator."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image in memory: `(height, width, 3)`, red, green, blue, 0..255."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Luma weights of the primaries: ITU-R BT.601."""


def random_box(
    shape: tuple[int, int], rng: np.random.Generator, *, scale: tuple[float, float], aspect: float
) -> tuple[float, float, float, float]:
    """Draw a random crop: area fraction uniform in `scale`, aspect ratio log-uniform (Szegedy et al. 2015).

    Args:
        shape: Height and width of the image.
        rng: Source of all randomness.
        scale: Minimum and maximum fraction of the area.
        aspect: Maximum ratio of width to height, and of height to width, relative to the image's own.

    Returns:
        Left, top, right, bottom in pixels, inside the image.
    """
    height, width = shape
    share = np.sqrt(rng.uniform(*scale))
    stretch = np.sqrt(np.exp(rng.uniform(-np.log(aspect), np.log(aspect))))
    box_width, box_height = min(width, width * share * stretch), min(height, height * share / stretch)
    left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    return left, top, min(left + box_width, width), min(top + box_height, height)


def jitter(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Change brightness, contrast and saturation, each by a factor uniform in `1 - strength .. 1 + strength`."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    # The three changes are affine in the colour: x -> brightness * (contrast * S x + (1 - contrast) * mean grey).
    mix = contrast * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * LUMA[None, :])
    colours = pixels.reshape(-1, 3).astype(np.float32)
    grey = float((colours @ LUMA).mean())
    changed = brightness * (colours @ mix.T + (1 - contrast) * grey)
    result: Pixels = np.clip(np.rint(changed), 0, 255).astype(np.uint8).reshape(pixels.shape)
    return result


def turn(pixels: Pixels, rng: np.random.Generator, *, horizontal: bool, vertical: bool, quarters: bool) -> Pixels:
    """Random flips (probability one half each) and random rotation by multiples of 90 degrees, where enabled."""
    if horizontal and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if vertical and rng.random() < 0.5:
        pixels = pixels[::-1]
    if quarters:
        pixels = np.rot90(pixels, int(rng.integers(4)))
    return pixels
