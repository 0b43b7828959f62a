"""A cloud drawn from three sides: shaded by depth, in its own colours, or by weight."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modalities.pointcloud.augment import seen_from
from modalities.pointcloud.sample import PointCloud
from modalities.pointcloud.transform import turned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHT, STRONG = np.full(3, 0.85), np.array([0.84, 0.37, 0.0])

DRAWN = 4096
"""Points that are drawn of a larger cloud."""


VIEWS = ((35.0, 25.0), (0.0, 0.0), (0.0, 90.0))
"""Azimuth and elevation, in degrees: from above one corner, from the front, from the top."""

GAP = 0.15
"""Between two views, as a fraction of the largest extent."""


def draw_cloud(cloud: PointCloud, axes: "Axes", weights: NDArray[np.float64] | None = None) -> None:
    """Draw three orthographic views side by side; z points up in a file that says so, y in all others.

    Args:
        cloud: What to draw.
        axes: Where to.
        weights: One number of at least 0 for each point, `(n,)`: points of the largest weight are red, of no weight
            light grey. None = shaded by depth.
    """
    drawn = np.random.default_rng(0).permutation(len(cloud))[:DRAWN]
    points = cloud.points[drawn].astype(np.float64)
    points = turned(points, "z") if cloud.up == "z" else points
    points = points - (points.min(0) + points.max(0)) / 2
    left = 0.0
    size = max(float(np.ptp(points, axis=0).max()), 1e-12)
    for azimuth, elevation in VIEWS:
        seen = seen_from(points, azimuth, elevation)
        order = np.argsort(seen[:, 2])  # near ones last
        x, y, depth = seen[order].T
        near = ((depth - depth.min()) / max(float(np.ptp(depth)), 1e-12))[:, None]
        if weights is not None:
            strength = (weights[drawn][order] / max(float(weights.max()), 1e-12))[:, None]
            paint = LIGHT + strength * (STRONG - LIGHT)
        elif cloud.colours is not None:
            paint = cloud.colours[drawn][order] * (0.4 + 0.6 * near)
        else:
            paint = np.tile(0.8 * (1 - near), 3)
        axes.scatter(x - x.min() + left, y, c=paint, s=2, linewidths=0)
        left += float(np.ptp(x)) + GAP * size
    axes.set_aspect("equal")
    axes.axis("off")
