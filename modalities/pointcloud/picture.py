"""A cloud drawn from above one corner: near points dark, far points light, or in their own colours."""

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
    colours = depth if cloud.colours is None else cloud.colours[kept][order]
    axes.scatter(x, y, c=colours, s=2, cmap="Greys", vmin=2 * depth.min() - depth.max(), vmax=depth.max(), linewidths=0)
    axes.set_aspect("equal")
    axes.axis("off")
