"""The shape seen from the front, from the side and from above, stretched to a cube."""

from collections.abc import Sequence

import numpy as np

from modalities.pointcloud.features.aligned import AlignedShape
from modalities.pointcloud.features.histograms import Numbers

CELLS = 12
"""Cells of a view along each axis."""

VIEWS: dict[str, tuple[int, int, Sequence[tuple[int, ...]]]] = {
    "front": (0, 2, ((0,),)),
    "side": (1, 2, ((0,),)),
    "above": (0, 1, ((0,), (1,), (0, 1))),
}
"""View -> the axes of its cells, and along which of them it is mirrored."""

FAMILIES = dict.fromkeys(VIEWS, 2 * CELLS**2)


def views(shape: AlignedShape) -> dict[str, Numbers]:
    """For each view, which cells have a point, and the square roots of the fractions of points in each cell.

    Each view is the mean over its mirror images, because the directions of the horizontal axes are arbitrary. The long
    horizontal axis runs across the front view.

    Args:
        shape: See `align`.
    """
    computed = {}
    for name, (across, upwards, mirrored) in VIEWS.items():
        index = ((shape.cube[:, [across, upwards]] + 0.5) * CELLS).astype(np.int64).clip(0, CELLS - 1)
        counts = np.bincount(index[:, 0] * CELLS + index[:, 1], minlength=CELLS**2).reshape(CELLS, CELLS)
        planes = [(counts > 0).astype(np.float64), np.sqrt(counts / len(index))]
        images = [[plane, *(np.flip(plane, axes) for axes in mirrored)] for plane in planes]
        computed[name] = np.concatenate([np.mean(each, axis=0).ravel() for each in images])
    return computed
