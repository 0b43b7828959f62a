"""Ten synthetic hearts: a contracting ellipse in speckle, for tests and trials; not a physiological model."""

import numpy as np

from modalities.common.sources.toy_classes import colour_and_shape
from modalities.echo.sample import Echo

SIDE, RATE = 64, 30.0

KINDS = tuple(
    {"beats": beats, "size": size, "shortening": shortening}
    for beats in (1.0, 2.2)
    for size, shortening in ((0.62, 0.12), (0.62, 0.38), (0.80, 0.12), (0.80, 0.38), (0.45, 0.25))
)
"""Slow or fast (beats per second), each large or very large (semi-axis as a fraction of half the frame) and weak or
strong (fraction by which the axis shortens), or small."""


def synthetic_echo(label: int, rng: np.random.Generator) -> Echo:
    """Generate about a second of one kind of heart, 64 x 64 at 30 frames per second, in a sector with black corners.

    Args:
        label: 0..9, see `KINDS`.
        rng: Source of all randomness.
    """
    colour_and_shape(label)  # rejects unknown classes
    kind = KINDS[label]
    count = int(rng.integers(24, 49))
    phase = 2 * np.pi * (kind["beats"] * rng.uniform(0.9, 1.1) * np.arange(count) / RATE + rng.random())
    shrink = 1 - kind["shortening"] * rng.uniform(0.85, 1.15) * (1 - np.cos(phase)) / 2
    line = np.linspace(-1, 1, SIDE, dtype=np.float32)
    x = line[None, :] - np.float32(rng.uniform(-0.08, 0.08))
    y = line[:, None] - np.float32(rng.uniform(-0.08, 0.08))
    axis = (kind["size"] * rng.uniform(0.95, 1.05) * shrink).astype(np.float32)[:, None, None]
    radius = np.sqrt((x / (0.6 * axis)) ** 2 + (y / axis) ** 2)  # (time, side, side); 1 = the wall
    wall = np.exp(-(((radius - 1.1) / 0.18) ** 2))
    echo = 0.06 + 0.30 * (radius > 1.1) + 0.75 * wall
    # Speckle is Rayleigh distributed: one fixed field for tissue, plus a little of a new field per frame.
    field = rng.rayleigh(0.8, (SIDE, SIDE)).astype(np.float32)
    flicker = rng.random((count, SIDE, SIDE), dtype=np.float32)
    sector = np.abs(line[None, :]) < 0.15 + 0.5 * (line[:, None] + 1)
    grey = 200 * np.sqrt(echo * field) * (0.8 + 0.4 * flicker) * sector
    return Echo(grey.clip(0, 255).astype(np.uint8), RATE)
