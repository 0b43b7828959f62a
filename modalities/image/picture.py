"""An image with brightness modulated by a grid of weights."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmalign.errors import UserError
from modalities.image.augment import Pixels

DARKEST = 0.25
"""Brightness at weight 0."""


def lit(sample: Pixels, weights: Sequence[float]) -> Pixels:
    """The image with full brightness at the patch of the largest weight, and less at others.

    Args:
        sample: `(height, width, 3)` uint8.
        weights: Weights of the patches of a square grid, row by row, at least 0.

    Raises:
        UserError: they are no square number, or one is negative, NaN or infinite.

    Example:
        >>> lit(np.full((2, 2, 3), 200, np.uint8), [0, 1, 0, 0])[:, :, 0].tolist()
        [[50, 200], [50, 50]]
    """
    grid = np.asarray(weights, dtype=np.float64)
    edge = math.isqrt(grid.size)
    if grid.ndim != 1 or not edge or edge * edge != grid.size:
        raise UserError(f"expected weights of a square grid of patches, got {grid.shape}")
    if not np.isfinite(grid).all() or (grid < 0).any():
        raise UserError("expected weights of at least 0, got a negative one, NaN or infinity")
    light = DARKEST + (1 - DARKEST) * grid / max(grid.max(), 1e-12)
    height, width = sample.shape[:2]
    lamp = np.asarray(Image.fromarray(light.reshape(edge, edge).astype(np.float32)).resize((width, height), 0))
    shaded: Pixels = (sample * lamp[:, :, None]).round().astype(np.uint8)
    return shaded
