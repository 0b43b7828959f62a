"""Named sets of hand-crafted shape features, of which the encoder `features` computes one or more."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modalities.pointcloud.features import normal_histograms, point_pairs, symmetry, views
from modalities.pointcloud.features.aligned import AlignedShape, align
from modalities.pointcloud.features.histograms import Numbers
from modalities.pointcloud.features.shape_features import FAMILIES, shape_features


class Descriptor(NamedTuple):
    """A set of features.

    Args:
        families: Family -> number of its features.
        compute: The features of a shape, by family.
    """

    families: Mapping[str, int]
    compute: Callable[[AlignedShape], Mapping[str, Numbers]]


ALIGNED: Mapping[str, Descriptor] = {
    "normal_histograms": Descriptor(normal_histograms.FAMILIES, normal_histograms.normal_histograms),
    "point_pairs": Descriptor(point_pairs.FAMILIES, point_pairs.point_pairs),
    "symmetry": Descriptor(symmetry.FAMILIES, symmetry.symmetry),
    "views": Descriptor(views.FAMILIES, views.views),
}
"""Descriptors of a shape in its own frame; `shape` is computed in the frame of principal directions."""

DESCRIPTORS = ("shape", *ALIGNED)


def families(descriptors: Sequence[str]) -> dict[str, int]:
    """Family -> number of its features, in order.

    Example:
        >>> families(["symmetry"])
        {'mirror': 6, 'rotation': 12}
    """
    counts: dict[str, int] = {}
    for name in descriptors:
        counts |= FAMILIES if name == "shape" else ALIGNED[name].families
    return counts


def describe(
    points: NDArray[np.float32], normals: NDArray[np.float32] | None, descriptors: Sequence[str] = ("shape",)
) -> Numbers:
    """The features of some descriptors, one after the other.

    Args:
        points: `(n, 3)` with n >= 8, z up.
        normals: Unit normals that point outwards, `(n, 3)`; None = estimated from the points.
        descriptors: Names of `DESCRIPTORS`.

    Returns:
        As many finite numbers as `families` counts.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
        >>> describe(ball, None, ["symmetry", "views"]).shape
        (882,)
    """
    shape = align(points, normals) if set(descriptors) - {"shape"} else None
    parts: list[Numbers] = []
    for name in descriptors:
        if name == "shape":
            parts.append(shape_features(points, normals))
        else:
            assert shape is not None
            computed = ALIGNED[name].compute(shape)
            parts += [computed[family] for family in ALIGNED[name].families]
    values = np.concatenate(parts)
    return np.where(np.isfinite(values), values, 0.0)
