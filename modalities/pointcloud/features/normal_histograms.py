"""Joint histograms of the directions of normals: by height, by direction from the centre, along the shape's axes."""

import numpy as np

from modalities.pointcloud.features.aligned import AlignedShape
from modalities.pointcloud.features.histograms import Numbers, joint_histogram

BY_LEVEL, OUTWARD, BY_AXIS = (9, 10), (4, 3, 5), (4, 4, 5)
FAMILIES = {
    "normal_by_level": int(np.prod(BY_LEVEL)),
    "normal_outward": int(np.prod(OUTWARD)),
    "normal_by_axis": int(np.prod(BY_AXIS)),
}


def normal_histograms(shape: AlignedShape) -> dict[str, Numbers]:
    r"""Square roots of the fractions of points whose normal n lies in each bin.

    `normal_by_level` counts :math:`(n_z, \text{level})`; `normal_outward` counts :math:`(n \cdot r, n_z,
    \text{level})`, with r the horizontal unit vector from the mean of the points to the point; `normal_by_axis` counts
    :math:`(|n_x|, |n_y|, n_z)`, so that a mirrored shape has the same one.

    Args:
        shape: See `align`.

    Returns:
        The families, flattened with the last quantity fastest.
    """
    across, deep, up = shape.normals.T
    outward = shape.unit[:, :2] - shape.unit[:, :2].mean(0)
    radius = np.maximum(np.hypot(*outward.T), 1e-9)
    radial = (across * outward[:, 0] + deep * outward[:, 1]) / radius
    return {
        "normal_by_level": joint_histogram((up, shape.level), BY_LEVEL, (-1, 0), (1, 1)),
        "normal_outward": joint_histogram((radial, up, shape.level), OUTWARD, (-1, -1, 0), (1, 1, 1)),
        "normal_by_axis": joint_histogram((np.abs(across), np.abs(deep), up), BY_AXIS, (0, 0, -1), (1, 1, 1)),
    }
