"""Shape features: invariances, a shape with known values, degenerate clouds."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from modalities.pointcloud import MODALITY
from modalities.pointcloud.features.histograms import joint_histogram
from modalities.pointcloud.features.shape_features import FAMILIES, WIDTH, shape_features
from modalities.pointcloud.features.surface import outward_normals, surface_family
from modalities.pointcloud.features.top_view import top_view
from modalities.pointcloud.sample import PointCloud


def family(values: np.ndarray, name: str) -> np.ndarray:
    starts = np.cumsum([0, *FAMILIES.values()])
    place = list(FAMILIES).index(name)
    return values[starts[place] : starts[place + 1]]


def box(count: int = 3000, seed: int = 0) -> np.ndarray:
    """Points inside a box of 4 x 2 x 1."""
    return (np.random.default_rng(seed).random((count, 3)) * [4, 2, 1]).astype(np.float32)


def test_order_of_points_changes_nothing() -> None:
    points = box()
    assert (shape_features(points) == shape_features(points[np.random.default_rng(1).permutation(len(points))])).all()


def test_translation_and_rotation_about_the_up_axis_change_only_rounding() -> None:
    points = box(500)
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = (points @ turn.T + [10, -3, 5]).astype(np.float32)
    # The choice of pairs follows the order of coordinates, so that histograms of pairs differ by sampling.
    one, other = shape_features(points), shape_features(moved)
    for name in ("size", "proportion", "moment", "height", "radius", "slice"):
        np.testing.assert_allclose(np.abs(family(one, name)), np.abs(family(other, name)), atol=0.02)
    for name in ("distance", "angle", "pair"):
        np.testing.assert_allclose(family(one, name), family(other, name), atol=0.05)


def test_size_of_a_box_and_area_of_a_square() -> None:
    size = np.exp(family(shape_features(box(20000)), "size"))
    np.testing.assert_allclose(size[:3], [4, 2, 1], rtol=0.05)
    flat = np.random.default_rng(0).random((2000, 3)).astype(np.float32) * np.float32([3, 3, 0])
    assert np.exp(family(shape_features(flat), "size"))[3] == pytest.approx(9, rel=0.1)


def test_histograms_are_roots_of_fractions() -> None:
    values = shape_features(box())
    for name in ("distance", "angle", "height", "radius", "height_radius", "normal_radial", "pair"):
        assert (family(values, name) ** 2).sum() == pytest.approx(1)


def cube(count: int = 3000, turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Points on a cube with edge 2 and their outward normals, turned about the up axis."""
    rng = np.random.default_rng(0)
    points, face = rng.uniform(-1, 1, (count, 3)), rng.integers(0, 6, count)
    normals = np.eye(3)[face % 3] * np.where(face < 3, 1, -1)[:, None]
    points = np.where(normals != 0, normals, points)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return (points @ matrix.T).astype(np.float32), (normals @ matrix.T).astype(np.float32)


def test_order_of_points_with_normals_changes_nothing() -> None:
    points, normals = cube()
    points[1], normals[1] = points[0], [0, 0, 1]  # the same point on two faces
    order = np.random.default_rng(1).permutation(len(points))
    assert (shape_features(points, normals) == shape_features(points[order], normals[order])).all()


def test_normals_of_a_cube() -> None:
    for turn in (0.0, 0.6):
        values = shape_features(*cube(turn=turn))
        by_height = family(values, "normal_height")[:40].reshape(5, 8) ** 2  # steepness, height
        np.testing.assert_allclose(by_height[[0, 2, 4]].sum(1), [1 / 6, 4 / 6, 1 / 6], atol=0.02)
        assert by_height[4, -1] == by_height[4].sum()  # the upper face is the highest, the lower one the lowest
        assert by_height[0, 0] == by_height[0].sum()
        azimuth = family(values, "azimuth").reshape(8, 5)[:, 2] ** 2  # orders of the four walls, two thirds of all
        np.testing.assert_allclose(azimuth[[3, 7]], 2 / 3, atol=0.02)
        assert np.delete(azimuth, [3, 7]).max() < 0.05


def test_normals_of_a_cube_are_estimated_outwards() -> None:
    points, normals = cube()
    estimated = outward_normals(points / 2.0, cKDTree(points / 2.0))
    inner = (np.abs(points) > 0.6).sum(1) == 1  # away from the edges
    np.testing.assert_allclose(estimated[inner], normals[inner], atol=1e-3)
    given, without = shape_features(points, normals), shape_features(points)
    np.testing.assert_allclose(family(without, "normal_height") ** 2, family(given, "normal_height") ** 2, atol=0.05)


def test_surface_of_a_plane_and_of_a_line() -> None:
    plane = np.column_stack([np.random.default_rng(0).random((2000, 2)), np.zeros(2000)]) - [0.5, 0.5, 0]
    line = plane * [1, 0, 0]
    up = np.tile([0.0, 0.0, 1.0], (2000, 1))
    for points, linear in ((plane, False), (line, True)):
        values = surface_family(points, up, cKDTree(points), np.random.default_rng(0)).reshape(3, 3, 8) ** 2
        np.testing.assert_allclose(values[:, 1, 0], 1)  # no deviation from a plane
        np.testing.assert_allclose(values[:, 2, -1], 1)  # normals are parallel
        assert (values[:, 0, -1] == 1).all() if linear else (values[:, 0, -1] < 0.1).all()


def test_top_view_counts_contours_of_rings_and_table_legs() -> None:
    angle = np.linspace(0, 2 * np.pi, 2000)
    ring = 0.4 * np.column_stack([np.cos(angle), np.sin(angle)])
    assert top_view(ring, np.zeros(2000))[3] == 2  # the outside and the hole
    disc = ring * np.sqrt(np.random.default_rng(0).random((2000, 1)))
    assert top_view(disc, np.zeros(2000))[3] == 1
    feet = np.array([[-0.3, -0.3], [0.3, -0.3], [-0.3, 0.3], [0.3, 0.3]])
    values = top_view(np.concatenate([disc, feet]), np.r_[np.ones(2000), np.zeros(4)])
    assert np.expm1(values[2]) == pytest.approx(4)
    assert values[1] == pytest.approx(4 / 24**2)


def test_joint_histogram_equals_numpy() -> None:
    rows = np.random.default_rng(0).random((2, 500))
    counts = np.histogram2d(*rows, (4, 6), ((0, 1), (0, 1)))[0]
    np.testing.assert_allclose(joint_histogram(rows, (4, 6), (0, 0), (1, 1)) ** 2, counts.ravel() / 500)


def test_the_setting_normals_uses_those_of_the_file_where_it_has_any() -> None:
    points, normals = cube()
    with_normals, bare = PointCloud(points, normals=-normals, up="z"), PointCloud(points, up="z")
    given, estimated = (MODALITY.transform("features", {}, up="z", normals=setting) for setting in (True, False))
    assert (given.featurise(with_normals)["measures"] == shape_features(points, -normals).astype(np.float32)).all()
    assert (estimated.featurise(with_normals)["measures"] == shape_features(points).astype(np.float32)).all()
    assert (given.featurise(bare)["measures"] == estimated.featurise(bare)["measures"]).all()


@pytest.mark.parametrize(
    "points",
    [np.zeros((8, 3)), np.repeat(np.eye(3), 3, axis=0), np.linspace(0, 1, 30).reshape(-1, 1) * np.ones(3)],
    ids=["one place", "three places", "a line"],
)
def test_degenerate_clouds_have_finite_features(points: np.ndarray) -> None:
    values = shape_features(points.astype(np.float32))
    assert values.shape == (WIDTH,)
    assert np.isfinite(values).all()
