"""A cloud drawn from above one corner, shaded by depth: near points dark, or bright in their own colours."""

from typing import TYPE_CHECKING

import numpy as np

from modalities.pointcloud.augment import rotation_about
from modalities.pointcloud.sample import PointCloud
from modalities.pointcloud.transform import turned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN = 4096
"""Points that are drawn of a larger cloud."""


def draw_cloud(cloud: PointCloud, axes: "Axes", *, azimuth: float = 35.0, elevation: float = 25.0) -> None:
    """Draw an orthographic view; z points up in a file that says so, y in all others.

    Args:
        cloud: What to draw.
        axes: Where to.
        azimuth: Angle about the up axis, in degrees.
        elevation: Angle above the horizon, in degrees.
    """
    kept = np.random.default_rng(0).permutation(len(cloud))[:DRAWN]
    points = cloud.points[kept].astype(np.float64)
    points = turned(points, "z") if cloud.up == "z" else points
    points = points @ rotation_about(1, np.deg2rad(-azimuth)).T @ rotation_about(0, np.deg2rad(elevation)).T
    order = np.argsort(points[:, 2])  # near ones last
    x, y, depth = points[order].T
    near = ((depth - depth.min()) / max(float(np.ptp(depth)), 1e-12))[:, None]
    own = cloud.colours
    paint = np.tile(0.8 * (1 - near), 3) if own is None else own[kept][order] * (0.4 + 0.6 * near)
    axes.scatter(x, y, c=paint, s=2, linewidths=0)
    axes.set_aspect("equal")
    axes.axis("off")
