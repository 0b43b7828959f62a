"""A shape in its own frame: up stays up, the horizontal axes are those of the smallest rectangle around it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.pointcloud.features.histograms import Numbers
from modalities.pointcloud.features.surface import outward_normals

POINTS = 8192
"""Points that descriptors are computed from; of a larger cloud a fixed choice."""


@dataclass(frozen=True)
class AlignedShape:
    """Points and normals of a shape, independent of its position, its size and its rotation about the up axis.

    Args:
        unit: Points around the centre of the shape's box, divided by its largest extent, `(n, 3)` in -0.5..0.5.
        cube: Points divided by the extent along each axis, `(n, 3)` in -0.5..0.5.
        level: Height as a fraction of the height of the shape, `(n,)`.
        normals: Unit normals, `(n, 3)`.
        tree: The KD-tree of `unit`.
    """

    unit: Numbers
    cube: Numbers
    level: Numbers
    normals: Numbers
    tree: Any


def align(points: NDArray[np.float32], normals: NDArray[np.float32] | None = None) -> AlignedShape:
    """Bring a shape into its frame; the order of the points has no effect.

    Args:
        points: `(n, 3)`, z up.
        normals: Unit normals, `(n, 3)`; None = estimated, see `outward_normals`.

    Example:
        >>> angle = np.linspace(0, 2 * np.pi, 100)
        >>> ellipse = np.column_stack([np.cos(angle), 3 * np.sin(angle), angle]).astype(np.float32)
        >>> np.ptp(align(ellipse).unit, axis=0).round(2).tolist()
        [0.95, 0.32, 1.0]
    """
    from scipy.spatial import cKDTree  # here, so that `mmalign list` need not load SciPy

    both = points.astype(np.float64) if normals is None else np.concatenate([points, normals], 1, dtype=np.float64)
    both = both[np.lexsort(both.T)]
    if len(both) > POINTS:
        both = both[np.sort(np.random.default_rng(0).choice(len(both), POINTS, replace=False))]
    axes = np.eye(3)
    axes[:2, :2] = rectangle_axes(both[:, :2])
    values = both[:, :3] @ axes
    low, high = values.min(0), values.max(0)
    extent = high - low
    centred = values - (low + high) / 2
    unit = centred / (float(extent.max()) or 1.0)
    cube = centred / np.where(extent > 0, extent, 1.0)
    tree = cKDTree(unit)
    directions = outward_normals(unit, tree) if normals is None else both[:, 3:] @ axes
    return AlignedShape(unit, cube, cube[:, 2] + 0.5, directions, tree)


def rectangle_axes(flat: Numbers) -> Numbers:
    """Axes of the rectangle of least area around points of a plane, the long one first; a side touches the hull.

    Unlike principal directions, they are parallel to the walls of a shape with a square outline.

    Args:
        flat: `(n, 2)`.

    Returns:
        A rotation with the axes as columns, `(2, 2)`.

    Example:
        >>> tilted = np.array([[0, 0], [3, 4], [-0.8, 0.6], [2.2, 4.6]])
        >>> np.abs(rectangle_axes(tilted)[:, 0]).round(3).tolist()
        [0.6, 0.8]
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = flat[ConvexHull(flat).vertices]
    except (QhullError, ValueError):  # points on a line, or fewer than three
        hull = flat[[int(np.argmin(flat @ [1, 1e-3])), int(np.argmax(flat @ [1, 1e-3]))]]
    edges = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.mod(np.arctan2(edges[:, 1], edges[:, 0]), np.pi / 2))
    cos, sin = np.cos(angles), np.sin(angles)
    along, across = np.ptp(hull @ np.stack([cos, sin]), axis=0), np.ptp(hull @ np.stack([-sin, cos]), axis=0)
    area = along * across
    best = int(np.argmax(area <= area.min() * (1 + 1e-6)))  # the first of equal ones, whatever the rounding
    axes = np.array([[cos[best], -sin[best]], [sin[best], cos[best]]])
    return axes if along[best] >= across[best] else np.column_stack([axes[:, 1], -axes[:, 0]])
