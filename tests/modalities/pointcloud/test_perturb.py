"""Perturbed clouds: a rotation is one about the up axis, occlusion a half-space, jitter relative to the radius."""

import numpy as np
import pytest

from modalities.pointcloud import MODALITY
from modalities.pointcloud.perturb import perturb_pointcloud
from modalities.pointcloud.sample import PointCloud


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cloud(count: int = 4000, *, up: str = "") -> PointCloud:
    points = rng(1).normal(size=(count, 3)).astype(np.float32) + np.array([5, -3, 2])
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    return PointCloud(points.astype(np.float32), abs(normals).astype(np.float32), normals.astype(np.float32), up=up)


def test_jitter_is_relative_to_the_radius() -> None:
    sample = cloud()
    change = perturb_pointcloud(sample, "jitter", 0.05, rng()).points - sample.points
    radius = np.linalg.norm(sample.points - sample.points.mean(0), axis=1).max()
    np.testing.assert_allclose(change.std(axis=0), 0.05 * radius, rtol=0.05)


@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("z", 2)])
@pytest.mark.parametrize("defined", [True, False])
def test_rotation_is_about_the_up_axis_of_the_transform(up: str, axis: int, defined: bool) -> None:
    sample = cloud(50, up=up if defined else "")
    transform = MODALITY.transform("point_transformer", {}, up=up)
    turned = MODALITY.perturb(sample, transform, "rotation", 90, rng(3))
    angle = np.deg2rad(90 * rng(3).uniform(-1, 1))
    one, other = (axis + 1) % 3, (axis + 2) % 3
    centre = sample.points.mean(axis=0)
    for before, after in ((sample.points - centre, turned.points - centre), (sample.normals, turned.normals)):
        np.testing.assert_allclose(after[:, axis], before[:, axis], atol=1e-5)
        expected = np.cos(angle) * before[:, one] - np.sin(angle) * before[:, other]
        np.testing.assert_allclose(after[:, one], expected, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1), atol=1e-5)


def test_occlusion_removes_one_side_of_a_plane() -> None:
    sample = cloud(400)
    seen = perturb_pointcloud(sample, "occlusion", 0.25, rng(4))
    direction = rng(4).standard_normal(3)
    kept = {tuple(point) for point in seen.points.tolist()}
    heights = sample.points @ direction
    inside = np.array([tuple(point) in kept for point in sample.points.tolist()])
    assert inside.sum() == 300
    assert heights[inside].max() < heights[~inside].min()


def test_dropped_points_are_spread_and_colours_follow() -> None:
    sample = cloud(4000)
    fewer = perturb_pointcloud(sample, "dropped_points", 0.5, rng())
    np.testing.assert_allclose(fewer.points.mean(axis=0), sample.points.mean(axis=0), atol=0.1)
    rows = {tuple(point): row for row, point in enumerate(sample.points.tolist())}
    index = [rows[tuple(point)] for point in fewer.points.tolist()]
    assert len(index) == 2000
    np.testing.assert_array_equal(fewer.colours, sample.colours[index])
    np.testing.assert_array_equal(fewer.normals, sample.normals[index])


@pytest.mark.parametrize("name", ["dropped_points", "occlusion"])
def test_eight_points_remain(name: str) -> None:
    assert len(perturb_pointcloud(cloud(20), name, 0.75, rng())) == 8
    assert len(perturb_pointcloud(cloud(5), name, 0.75, rng())) == 5
