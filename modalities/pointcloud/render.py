"""A small grey image of a cloud: its nearest points by a depth buffer."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.pointcloud.augment import seen_from


def render(
    points: NDArray[np.float32], size: int = 64, *, azimuth: float = 35.0, elevation: float = 25.0
) -> NDArray[np.uint8]:
    """Orthographic view of points with y up: near ones bright, the ground black.

    Args:
        points: `(n, 3)`.
        size: Height and width in pixels.
        azimuth: Angle about the up axis, in degrees.
        elevation: Angle above the horizon, in degrees.

    Returns:
        `(size, size, 3)` uint8.

    Example:
        >>> int((render(np.zeros((1, 3), np.float32), 16)[:, :, 0] > 0).sum())
        4
    """
    seen = seen_from(points - points.mean(0), azimuth, elevation)
    radius = max(float(np.abs(seen[:, :2]).max()), 1e-12)
    column, row = ((seen[:, :2] * [1, -1] / radius * 0.45 + 0.5) * (size - 1)).astype(int).T
    depth = (seen[:, 2] - seen[:, 2].min()) / max(float(np.ptp(seen[:, 2])), 1e-12)
    buffer = np.zeros((size + 1, size + 1))
    for down in (0, 1):  # a point covers four pixels, so that surfaces have no holes
        for right in (0, 1):
            np.maximum.at(buffer, (row + down, column + right), 0.25 + 0.75 * depth)
    grey = (buffer[:size, :size, None] * 255).round().astype(np.uint8)
    return np.repeat(grey, 3, axis=2)


def render_png(points: NDArray[np.float32], size: int = 64) -> bytes:
    """`render` as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(render(points, size)).save(stream, "PNG")
    return stream.getvalue()
