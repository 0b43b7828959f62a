"""Hand-crafted features of one shape: size, height profile, distances, angles, local surface."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

POINTS = 4096
"""Points that features are taken of; of a larger cloud a fixed choice."""

PAIRS = 16384
"""Pairs, and triples, whose distances and angles are counted."""

NEIGHBOURS = 16
"""Points of a local surface patch, itself included."""

SLICES = 8
FAMILIES = {
    "size": 6, "proportion": 6, "moment": 14, "distance": 32, "angle": 16, "height": 16, "radius": 16,
    "height_radius": 48, "slice": 4 * SLICES, "surface": 32, "normal": 24, "pair": 32,
}  # fmt: skip
"""Family -> number of its features, in order."""

WIDTH = sum(FAMILIES.values())


def shape_features(points: NDArray[np.float32]) -> Numbers:
    """Features of a shape that do not change when it is moved, turned about its up axis, or its points are reordered.

    Families: `size` (logarithms of area and extents), `proportion` (extents and area relative to the largest extent),
    `moment` (of height and horizontal directions), `distance` (histogram D2 of Osada et al. 2002), `angle` (their A3),
    `height`, `radius` and `height_radius` (histograms of the position), `slice` (extents and mass of horizontal
    slices), `surface` and `normal` (of the covariance of each point's neighbours: linear, planar; how steep), `pair`
    (angle between normals against distance). Histograms are square roots of fractions. The area is estimated from the
    distance to the nearest neighbour. Horizontal extents are those of the box along the horizontal principal
    directions.

    Args:
        points: `(n, 3)` with n >= 8, z up.

    Returns:
        `(WIDTH,)`, finite.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
        >>> shape_features(ball).shape == (WIDTH,)
        True
    """
    values = points.astype(np.float64)
    values = values[np.lexsort(values.T)]  # whatever the order was, choices below are the same
    rng = np.random.default_rng(0)
    if len(values) > POINTS:
        values = values[np.sort(rng.choice(len(values), POINTS, replace=False))]
    values = _turned(values)
    low, high = values.min(0), values.max(0)
    extent = high - low
    scale = float(extent.max()) or 1.0
    unit = (values - (low + high) / 2) / scale  # in -0.5..0.5
    height = (values[:, 2] - low[2]) / scale
    centred = unit - unit.mean(0)
    radius = np.hypot(centred[:, 0], centred[:, 1])
    from scipy.spatial import cKDTree  # here, so that `mmalign list` need not load SciPy

    tree = cKDTree(unit)
    near, index = tree.query(unit, min(NEIGHBOURS, len(unit)))
    area = 4 * len(unit) * float(near[:, 1].mean()) ** 2
    shape, steep, normals = _local(unit[index])
    first, second, third = rng.integers(0, len(unit), (3, PAIRS))
    apart = np.linalg.norm(unit[first] - unit[second], axis=1)
    parallel = np.abs((normals[first] * normals[second]).sum(1))
    families = {
        "size": np.log(np.array([*extent, area * scale**2, np.linalg.norm(extent), extent[:2].max()]) + 1e-3),
        "proportion": np.array([*extent / scale, area, min(extent[:2]) / (max(extent[:2]) or 1.0),
                                unit[:, 2].mean() - unit[:, 2].min()]),
        "moment": _moments(centred, radius),
        "distance": _histogram(apart, 32, 0, 1.75),
        "angle": _histogram(_cosine(unit[first] - unit[third], unit[second] - unit[third]), 16, -1, 1),
        "height": _histogram(height, 16, 0, 1),
        "radius": _histogram(radius, 16, 0, 0.75),
        "height_radius": _histogram2(height, radius, (8, 6), (1, 0.75)),
        "slice": _slices(unit, height / max(float(height.max()), 1e-9)),
        "surface": np.concatenate([_histogram(column, 16, 0, 1) for column in shape.T]),
        "normal": np.concatenate([_histogram(steep, 12, 0, 1), _weighted(steep, height, 12)]),
        "pair": _histogram2(parallel, apart, (4, 8), (1, 1.75)),
    }  # fmt: skip
    values = np.concatenate([families[name] for name in FAMILIES])
    return np.where(np.isfinite(values), values, 0.0)


def _turned(values: Numbers) -> Numbers:
    """Turned about the up axis so that the horizontal principal direction is x: a rotation changes nothing."""
    flat = values[:, :2] - values[:, :2].mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    return np.column_stack([flat @ axes[:, ::-1], values[:, 2]])


def _local(patches: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Linearity and planarity `(n, 2)`, steepness `(n,)` and normal `(n, 3)` of each point's neighbours."""
    centred = patches - patches.mean(1, keepdims=True)
    values, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    low, middle, high = values.clip(min=0).T
    top = np.maximum(high, 1e-12)
    normals = axes[:, :, 0]
    return np.stack([(high - middle) / top, (middle - low) / top], 1), np.abs(normals[:, 2]), normals


def _moments(centred: Numbers, radius: Numbers) -> Numbers:
    covariance = centred.T @ centred / len(centred)
    up, wide, deep = centred[:, 2], np.abs(centred[:, 0]), np.abs(centred[:, 1])
    return np.array([
        *np.linalg.eigvalsh(covariance), *np.diag(covariance),
        (up**3).mean(), (up**4).mean(), (radius**3).mean(), radius.mean(), wide.mean(), deep.mean(),
        (up * radius).mean(), (up * radius**2).mean(),
    ])  # fmt: skip


def _slices(unit: Numbers, level: Numbers) -> Numbers:
    """Two horizontal extents, mass and mean radius of each slice, from the lowest up."""
    found = np.zeros((SLICES, 4))
    which = (level * SLICES).astype(int).clip(0, SLICES - 1)
    for place in range(SLICES):
        inside = unit[which == place, :2]
        if len(inside):
            spread = np.ptp(inside, axis=0)
            radius = np.hypot(*(inside - inside.mean(0)).T).mean()
            found[place] = [spread[0], spread[1], len(inside) / len(unit), radius]
    return found.ravel()


def _weighted(values: Numbers, height: Numbers, bins: int) -> Numbers:
    """Mean of the values at each height, 0 where nothing is."""
    which = (height * bins).astype(int).clip(0, bins - 1)
    count = np.bincount(which, minlength=bins)
    mean: Numbers = np.bincount(which, values, minlength=bins) / count.clip(min=1)
    return mean


def _cosine(a: Numbers, b: Numbers) -> Numbers:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: Numbers = (a * b).sum(1) / np.maximum(lengths, 1e-12)
    return cosine


def _histogram(values: Numbers, bins: int, low: float, high: float) -> Numbers:
    counts, _ = np.histogram(values.clip(low, high), bins, (low, high))
    roots: Numbers = np.sqrt(counts / len(values))
    return roots


def _histogram2(a: Numbers, b: Numbers, bins: tuple[int, int], high: tuple[float, float]) -> Numbers:
    counts, _, _ = np.histogram2d(a.clip(0, high[0]), b.clip(0, high[1]), bins, ((0, high[0]), (0, high[1])))
    roots: Numbers = np.sqrt(counts.ravel() / len(a))
    return roots
