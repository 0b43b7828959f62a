"""Distances of a shape from its mirror images, and from itself after rotations about the up axis."""

import numpy as np

from modalities.pointcloud.augment import rotation_about
from modalities.pointcloud.features.aligned import AlignedShape
from modalities.pointcloud.features.histograms import Numbers

ANGLES = (180.0, 90.0, 60.0, 120.0, 45.0, 30.0)
"""Rotations about the up axis, in degrees."""

EVERY = 8
"""One point in this number of points is moved."""

FAMILIES = {"mirror": 6, "rotation": 2 * len(ANGLES)}


def symmetry(shape: AlignedShape) -> dict[str, Numbers]:
    """Square roots of the mean and the 95 % quantile of the distances from moved points to the nearest point.

    The motions are, about the centre of the shape's box, the reflections along its three axes (`mirror`, the up axis
    last) and the rotations by `ANGLES` (`rotation`). The distances of a symmetric shape are those between neighbouring
    points; all are fractions of the largest extent.

    Args:
        shape: See `align`.
    """
    moved = shape.unit[::EVERY]

    def distances(matrices: list[Numbers]) -> Numbers:
        near = [shape.tree.query(moved @ matrix.T)[0] for matrix in matrices]
        roots: Numbers = np.sqrt(np.array([[one.mean(), np.quantile(one, 0.95)] for one in near]).ravel())
        return roots

    return {
        "mirror": distances([np.eye(3) - 2 * np.diag(axis) for axis in np.eye(3)]),
        "rotation": distances([rotation_about(2, np.deg2rad(angle)) for angle in ANGLES]),
    }
