"""The ten toy classes: one solid each, as a cloud of noisy points."""

import numpy as np

from mmalign.errors import UserError
from modalities.pointcloud.sample import PointCloud
from modalities.pointcloud.solids.draw import KINDS, draw_solid
from modalities.pointcloud.surface import sample_surface

TOY_POINTS = 512
TOY_CLASSES = list(KINDS)[:10]


def toy_solid(label: int, rng: np.random.Generator) -> PointCloud:
    """A cloud of class `label` (0..9) with a noise of 1 %."""
    if not 0 <= label < len(TOY_CLASSES):
        raise UserError(f"toy classes are 0..9, got {label}")
    vertices, faces = draw_solid(TOY_CLASSES[label], rng).mesh
    points, _, _ = sample_surface(vertices, faces, TOY_POINTS, seed=int(rng.integers(1 << 31)))
    points = points - points.mean(0) + rng.normal(0, 0.01, points.shape)
    return PointCloud(points.astype(np.float32))
