"""Perturbations of point clouds for robustness: jitter, dropped points, rotation about the up axis, occlusion."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modalities.pointcloud.augment import JITTER_LIMIT, rotation_about
from modalities.pointcloud.sample import MIN_POINTS, PointCloud

PERTURBATIONS: Mapping[str, Sequence[float]] = {
    "jitter": (0.01, 0.02, 0.05, 0.1),
    "dropped_points": (0.1, 0.25, 0.5, 0.75),
    "rotation": (10, 30, 90, 180),
    "occlusion": (0.1, 0.25, 0.5, 0.75),
}
"""Levels, weakest first: standard deviation of the noise as a fraction of the radius, fraction of the points removed at
random, largest angle about the up axis in degrees, fraction of the points removed behind a random plane."""


def perturb_pointcloud(
    sample: PointCloud, name: str, level: float, rng: np.random.Generator, *, up: str = "y"
) -> PointCloud:
    """Perturb a cloud; at least eight points remain.

    Args:
        sample: The cloud; not modified.
        name: One of `PERTURBATIONS`.
        level: In the unit that `PERTURBATIONS` states.
        rng: Source of all randomness.
        up: The axis that points up in the file, as the transform's setting `up` states it.

    Example:
        >>> cloud = PointCloud(np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32))
        >>> len(perturb_pointcloud(cloud, "occlusion", 0.25, np.random.default_rng(0)))
        75
    """
    points = sample.points.astype(np.float64)
    centred = points - points.mean(axis=0)
    if name == "jitter":
        radius = np.linalg.norm(centred, axis=1).max()
        noise = np.clip(rng.standard_normal(points.shape), -JITTER_LIMIT, JITTER_LIMIT)
        return replace(sample, points=(points + level * radius * noise).astype(np.float32))
    if name == "rotation":
        matrix = rotation_about("xyz".index(up), np.deg2rad(level * rng.uniform(-1, 1))).T
        normals = None if sample.normals is None else (sample.normals @ matrix).astype(np.float32)
        return replace(sample, points=(centred @ matrix + points.mean(axis=0)).astype(np.float32), normals=normals)
    # The first points of an order remain: a random one, or the distance along a random direction.
    order = rng.permutation(len(points)) if name == "dropped_points" else np.argsort(centred @ rng.standard_normal(3))
    count = max(min(MIN_POINTS, len(points)), round((1 - level) * len(points)))
    remaining = np.sort(order[:count])
    colours, normals = (None if one is None else one[remaining] for one in (sample.colours, sample.normals))
    return replace(sample, points=sample.points[remaining], colours=colours, normals=normals)
