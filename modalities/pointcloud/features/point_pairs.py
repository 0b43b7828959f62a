"""Histograms over pairs of points: how far apart sideways and upwards, and how their normals lie to each other."""

import numpy as np

from modalities.pointcloud.features.aligned import AlignedShape
from modalities.pointcloud.features.histograms import Numbers, joint_histogram

PAIRS = 32768
"""Pairs that are counted, drawn with a fixed seed."""

OFFSETS, FEATURES = (10, 8), (5, 4, 4, 4)
FAMILIES = {"pair_offset": int(np.prod(OFFSETS)), "pair_feature": int(np.prod(FEATURES))}


def point_pairs(shape: AlignedShape) -> dict[str, Numbers]:
    r"""Square roots of the fractions of pairs in each bin.

    `pair_offset` counts the horizontal and the vertical distance of two points. `pair_feature` counts the point pair
    features of Drost et al. 2010 for unordered pairs: with the difference d of the points and their normals n, m,
    :math:`(\|d\|, \min(|n \cdot d|, |m \cdot d|) / \|d\|, \max(|n \cdot d|, |m \cdot d|) / \|d\|, n \cdot m)`.

    Args:
        shape: See `align`.

    Returns:
        The families, flattened with the last quantity fastest.
    """
    first, second = np.random.default_rng(0).integers(0, len(shape.unit), (2, PAIRS))
    difference = shape.unit[first] - shape.unit[second]
    n, m = shape.normals[first], shape.normals[second]
    length = np.linalg.norm(difference, axis=1)
    direction = difference / np.maximum(length, 1e-9)[:, None]
    one, other = np.abs((n * direction).sum(1)), np.abs((m * direction).sum(1))
    sideways, upwards = np.hypot(*difference[:, :2].T), np.abs(difference[:, 2])
    return {
        "pair_offset": joint_histogram((sideways, upwards), OFFSETS, (0, 0), (1.4, 1)),
        "pair_feature": joint_histogram(
            (length, np.minimum(one, other), np.maximum(one, other), (n * m).sum(1)),
            FEATURES, (0, 0, 0, -1), (1.5, 1, 1, 1),
        ),
    }  # fmt: skip
