"""Ten kinds of a coloured shape that moves, with its true trajectory, for tests and trials."""

import numpy as np

from modalities.common.sources.toy_classes import COLOURS, colour_and_shape
from modalities.video.sample import Clip, Tracks

SIDE, RATE = 48, 8.0

TURNS = ("yellow", "violet")
"""Colours whose two classes differ in the order of movement alone: both are discs, one moves right and then left, the
other left and then right. The shapes of other colours move down in class 0..4, right in class 5..9."""

RADIUS = 7
TRAVEL = 14
"""Distance from the middle of the movement to its ends, in pixels."""


def synthetic_clip(label: int, rng: np.random.Generator) -> Clip:
    """Generate about two seconds of one kind of clip, 48 x 48 at 8 frames per second, on a still grey texture.

    Args:
        label: 0..9; colour and shape as in the toy classes of all modalities, movement as `TURNS` states.
        rng: Source of all randomness.
    """
    colour, shape = colour_and_shape(label)
    count = int(rng.integers(12, 21))
    time = np.linspace(0, 1, count)
    if colour in TURNS:
        shape = "disc"
        path = np.stack([np.zeros(count), np.sin(2 * np.pi * time) * (1 if label < len(COLOURS) else -1)], axis=1)
    else:
        along = 2 * time - 1
        path = np.stack([along, 0 * along] if label < len(COLOURS) else [0 * along, along], axis=1)
    centres = (SIDE - 1) / 2 + rng.uniform(-3, 3, 2) + TRAVEL * path
    rows, columns = np.mgrid[:SIDE, :SIDE]
    down, right = (np.abs(grid - centres[:, None, None, axis]) for axis, grid in enumerate((rows, columns)))
    inside = np.hypot(down, right) <= RADIUS if shape == "disc" else np.maximum(down, right) <= RADIUS - 1
    ground = rng.normal(150, 12, (SIDE, SIDE, 1)) + rng.normal(0, 4, (count, SIDE, SIDE, 3))
    frames = np.where(inside[..., None], np.array(COLOURS[colour]) + rng.normal(0, 6, (count, 1, 1, 3)), ground)
    return Clip(frames.clip(0, 255).astype(np.uint8), RATE, Tracks.from_labels(inside.astype(np.int32)))
