"""Hand-crafted features of one shape: size, outline, distances, surface and normals."""

import numpy as np
from numpy.typing import NDArray

from modalities.pointcloud.features.histograms import Numbers, histogram, joint_histogram
from modalities.pointcloud.features.surface import (
    HEIGHTS,
    ORDERS,
    SCALES,
    STEEPNESS,
    normal_families,
    outward_normals,
    surface_family,
)
from modalities.pointcloud.features.top_view import TOP, top_view

POINTS = 4096
"""Points that features are taken of; of a larger cloud a fixed choice."""

PAIRS = 16384
"""Pairs, and triples, whose distances and angles are counted."""

SLICES = 8
FAMILIES = {
    "size": 6, "proportion": 6, "moment": 14, "distance": 32, "angle": 16, "height": 16, "radius": 16,
    "height_radius": 48, "slice": 4 * SLICES, "surface": 24 * len(SCALES), "normal_height": 2 * STEEPNESS * HEIGHTS,
    "normal_radial": 36, "azimuth": STEEPNESS * len(ORDERS), "pair": 72, "top": TOP,
}  # fmt: skip
"""Family -> number of its features, in order."""

WIDTH = sum(FAMILIES.values())


def shape_features(points: NDArray[np.float32], normals: NDArray[np.float32] | None = None) -> Numbers:
    """Features of a shape that do not change when it is moved, turned about its up axis, or its points are reordered.

    Families: `size` (logarithms of area and extents), `proportion` (extents and area relative to the largest extent),
    `moment` (of height and horizontal directions), `distance` (histogram D2 of Osada et al. 2002), `angle` (their A3),
    `height`, `radius` and `height_radius` (histograms of the position), `slice` (extents and mass of horizontal
    slices), `surface` (see `surface_family`), `normal_height`, `normal_radial` and `azimuth` (see `normal_families`),
    `pair` (angle between normals against distance), `top` (see `top_view`). Histograms are square roots of fractions.
    The area is estimated from the distance to the nearest neighbour. Horizontal extents are those of the box along the
    horizontal principal directions.

    Args:
        points: `(n, 3)` with n >= 8, z up.
        normals: Unit normals that point outwards, `(n, 3)`; None = estimated from the points, see `outward_normals`.

    Returns:
        `(WIDTH,)`, finite.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
        >>> shape_features(ball).shape == (WIDTH,)
        True
    """
    both = points.astype(np.float64) if normals is None else np.concatenate([points, normals], 1, dtype=np.float64)
    both = both[np.lexsort(both.T)]  # whatever the order was, choices below are the same
    rng = np.random.default_rng(0)
    if len(both) > POINTS:
        both = both[np.sort(rng.choice(len(both), POINTS, replace=False))]
    axes = _principal_axes(both[:, :3])
    values = both[:, :3] @ axes
    low, high = values.min(0), values.max(0)
    extent = high - low
    scale = float(extent.max()) or 1.0
    unit = (values - (low + high) / 2) / scale  # in -0.5..0.5
    height = (values[:, 2] - low[2]) / scale
    level = height / max(float(height.max()), 1e-9)
    centred = unit - unit.mean(0)
    radius = np.hypot(centred[:, 0], centred[:, 1])
    from scipy.spatial import cKDTree  # here, so that `mmalign list` need not load SciPy

    tree = cKDTree(unit)
    near, _ = tree.query(unit, 2)
    area = 4 * len(unit) * float(near[:, 1].mean()) ** 2
    directions = outward_normals(unit, tree) if normals is None else both[:, 3:] @ axes
    first, second, third = rng.integers(0, len(unit), (3, PAIRS))
    apart = np.linalg.norm(unit[first] - unit[second], axis=1)
    cosine = (directions[first] * directions[second]).sum(1)
    families = {
        "size": np.log(np.array([*extent, area * scale**2, np.linalg.norm(extent), extent[:2].max()]) + 1e-3),
        "proportion": np.array([*extent / scale, area, min(extent[:2]) / (max(extent[:2]) or 1.0),
                                unit[:, 2].mean() - unit[:, 2].min()]),
        "moment": _moments(centred, radius),
        "distance": histogram(apart, 32, 0, 1.75),
        "angle": histogram(_cosine(unit[first] - unit[third], unit[second] - unit[third]), 16, -1, 1),
        "height": histogram(height, 16, 0, 1),
        "radius": histogram(radius, 16, 0, 0.75),
        "height_radius": joint_histogram((height, radius), (8, 6), (0, 0), (1, 0.75)),
        "slice": _slices(unit, level),
        "surface": surface_family(unit, directions, tree, rng),
        **normal_families(centred, directions, height, level),
        "pair": joint_histogram((apart, cosine), (12, 6), (0, -1), (1.75, 1)),
        "top": top_view(unit[:, :2], level),
    }  # fmt: skip
    values = np.concatenate([families[name] for name in FAMILIES])
    return np.where(np.isfinite(values), values, 0.0)


def _principal_axes(values: Numbers) -> Numbers:
    """Columns that make the horizontal principal direction x, up stays up: a rotation about it changes nothing."""
    flat = values[:, :2] - values[:, :2].mean(0)
    axes = np.eye(3)
    axes[:2, :2] = np.linalg.eigh(flat.T @ flat)[1][:, ::-1]
    return axes


def _moments(centred: Numbers, radius: Numbers) -> Numbers:
    covariance = centred.T @ centred / len(centred)
    up, across, deep = centred[:, 2], np.abs(centred[:, 0]), np.abs(centred[:, 1])
    return np.array([
        *np.linalg.eigvalsh(covariance), *np.diag(covariance),
        (up**3).mean(), (up**4).mean(), (radius**3).mean(), radius.mean(), across.mean(), deep.mean(),
        (up * radius).mean(), (up * radius**2).mean(),
    ])  # fmt: skip


def _slices(unit: Numbers, level: Numbers) -> Numbers:
    """Two horizontal extents, mass and mean radius of each slice, from the lowest up."""
    measures = np.zeros((SLICES, 4))
    index = (level * SLICES).astype(int).clip(0, SLICES - 1)
    for number in range(SLICES):
        inside = unit[index == number, :2]
        if len(inside):
            spread = np.ptp(inside, axis=0)
            radius = np.hypot(*(inside - inside.mean(0)).T).mean()
            measures[number] = [spread[0], spread[1], len(inside) / len(unit), radius]
    return measures.ravel()


def _cosine(a: Numbers, b: Numbers) -> Numbers:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: Numbers = (a * b).sum(1) / np.maximum(lengths, 1e-12)
    return cosine
