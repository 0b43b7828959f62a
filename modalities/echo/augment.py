"""Training augmentation of a clip, equal for all its frames, so that motion between frames is preserved."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Frames = NDArray[np.uint8]
"""`(time, size, size)`."""


def moved(frames: Frames, rng: np.random.Generator, *, shift: float, rotation: float) -> Frames:
    """Random shift and rotation, as from probe movement; the border is filled with black.

    Args:
        frames: Square frames.
        rng: Source of all randomness.
        shift: Maximum shift along each axis, as a fraction of the side.
        rotation: Maximum rotation in degrees.
    """
    angle = np.deg2rad(rng.uniform(-rotation, rotation))
    # grid_sample's axes run from -1 to 1: a side is 2 long.
    right, down = 2 * rng.uniform(-shift, shift, 2)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = torch.tensor([[[cosine, -sine, right], [sine, cosine, down]]], dtype=torch.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(frames))[None].float()  # frames as channels: one grid for all
    grid = F.affine_grid(matrix, list(tensor.shape), align_corners=False)
    result = F.grid_sample(tensor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return np.asarray(result[0].round().clamp(0, 255).to(torch.uint8).numpy())


def gained(frames: Frames, rng: np.random.Generator, gain: float) -> Frames:
    """Random gain: multiply all grey levels by one factor."""
    table = np.arange(256) * np.exp(rng.uniform(-gain, gain))
    return np.asarray(np.rint(table).clip(0, 255).astype(np.uint8)[frames])
