"""Augmentation of clouds: rotation about the up axis, noise, size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Item = dict[str, NDArray[np.float32]]

JITTER_LIMIT = 5.0
"""Number of standard deviations at which noise is clipped, as in PointNet."""


def rotation_about(axis: int, angle: float) -> NDArray[np.float64]:
    """The matrix that rotates column vectors by `angle` radians about x (0), y (1) or z (2)."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = np.cos(angle)
    matrix[other, one], matrix[one, other] = np.sin(angle), -np.sin(angle)
    return matrix


def seen_from(points: NDArray[Any], azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Points with y up as seen from a direction: x to the right, y up, z towards the viewer, `(n, 3)`.

    Args:
        points: `(n, 3)`.
        azimuth: Angle about the up axis, in degrees.
        elevation: Angle above the horizon, in degrees.
    """
    turn = rotation_about(0, np.deg2rad(elevation)) @ rotation_about(1, np.deg2rad(-azimuth))
    seen: NDArray[np.float64] = points.astype(np.float64) @ turn.T
    return seen


def augment(
    item: Item, rng: np.random.Generator, vertical: int, *, rotation: float, jitter: float, scaling: float
) -> Item:
    """Rotate, resize and shake one cloud.

    Args:
        item: `points (n, 3)`, and perhaps `normals` and others; not modified.
        rng: Source of all randomness.
        vertical: Place of the axis that points up.
        rotation: Largest angle in degrees.
        jitter: Standard deviation of the noise.
        scaling: Largest logarithm of the factor.

    Returns:
        The same arrays; those that do not change are shared.
    """
    changed = dict(item)
    if rotation:
        matrix = rotation_about(vertical, np.deg2rad(rng.uniform(-rotation, rotation))).T
        for name in ("points", "normals"):
            if name in changed:
                changed[name] = (changed[name] @ matrix).astype(np.float32)
    points = changed["points"]
    if scaling:
        points = points * np.float32(np.exp(rng.uniform(-scaling, scaling)))
    if jitter:
        noise = rng.normal(0, 1, points.shape).clip(-JITTER_LIMIT, JITTER_LIMIT) * jitter
        points = points + noise.astype(np.float32)
    return changed | {"points": points}
