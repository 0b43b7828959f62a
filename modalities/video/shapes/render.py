"""From a scene to frames and true masks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.video.shapes.scene import COLOURS, FRAMES, MARGIN, SIDE, Body, Scene

NOISE = 6
"""Largest deviation of a pixel's brightness."""

Distances = NDArray[np.float32]
_INSIDE: dict[str, Callable[[Distances, Distances], NDArray[np.bool_]]] = {
    "square": lambda y, x: (np.abs(y) <= 0.9) & (np.abs(x) <= 0.9),
    "circle": lambda y, x: y**2 + x**2 <= 1,
    "triangle": lambda y, x: (2 * np.abs(x) <= y + 1) & (y <= 1),
    "cross": lambda y, x: ((np.abs(y) <= 0.35) & (np.abs(x) <= 1)) | ((np.abs(x) <= 0.35) & (np.abs(y) <= 1)),
    "diamond": lambda y, x: np.abs(y) + np.abs(x) <= 1.1,
}
"""Shape -> what lies inside, by row and column from its centre in units of its radius, which broadcast."""


def render(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a scene; about 3 ms.

    Args:
        scene: See `Scene`.

    Shape:
        Returns frames `(time, side, side, 3)`, red, green, blue; and segment ids `(time, side, side)`: body k of the
        scene has id k + 1 in all frames, 0 = background.

    Example:
        >>> from modalities.video.shapes.appearance import draw_appearance
        >>> frames, labels = render(draw_appearance(0, np.random.default_rng(2)))
        >>> frames.shape, labels.shape, labels.max()
        ((24, 64, 64, 3), (24, 64, 64), np.uint8(1))
    """
    rng = np.random.default_rng(scene.seed)
    labels = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    for index, body in enumerate(scene.bodies):
        np.copyto(labels, np.uint8(index + 1), where=_mask(body))
    ground = _ground(scene.ground, rng)
    top, left = (np.rint(scene.camera).astype(int) + MARGIN).T
    frames = np.stack([ground[y : y + SIDE, x : x + SIDE] for y, x in zip(top, left, strict=True)])
    palette = np.array([(0, 0, 0), *(COLOURS[body.colour] for body in scene.bodies)], np.uint8)
    np.copyto(frames, palette[labels], where=labels[..., None] > 0)
    noise = rng.integers(-NOISE, NOISE + 1, labels.shape, dtype=np.int16)
    frames = (frames + noise[..., None]).clip(0, 255).astype(np.uint8)
    return (frames[::-1].copy(), labels[::-1].copy()) if scene.reverse else (frames, labels)


def _mask(body: Body) -> NDArray[np.bool_]:
    axis_values = np.arange(SIDE, dtype=np.float32)
    radius = body.radius[:, None]
    rows, columns = (((axis_values - body.path[:, axis, None]) / radius).astype(np.float32) for axis in (0, 1))
    return _INSIDE[body.shape](rows[:, :, None], columns[:, None, :])


def _ground(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The world's background, a margin wider than the picture on each side; darker than most shapes."""
    width = SIDE + 2 * MARGIN
    rows, columns = np.arange(width)[:, None] + rng.integers(16), np.arange(width)[None] + rng.integers(16)
    period = int(rng.integers(8, 17))
    first, second = rng.integers(40, 110, 3), rng.integers(-30, 31, 3)
    pattern: NDArray[Any]
    if kind == "striped":
        pattern = (columns if rng.random() < 0.5 else rows) % period < period / 2
    elif kind == "checked":
        pattern = (rows % period < period / 2) ^ (columns % period < period / 2)
    elif kind == "dotted":
        pattern = (rows % period - period / 2) ** 2 + (columns % period - period / 2) ** 2 < (period / 3) ** 2
    elif kind == "mosaic":
        pattern = rng.random((12, 12))[(rows // 8) % 12, (columns // 8) % 12]
    else:
        pattern = np.zeros(1)
    pattern = np.broadcast_to(pattern, (width, width))
    return (first + pattern[..., None] * second).clip(0, 255).astype(np.uint8)
