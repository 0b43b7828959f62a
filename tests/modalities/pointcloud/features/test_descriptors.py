"""Descriptors: closed forms on boxes, spheres, cylinders and rods; independence of order, place, size and rotation."""

import json

import numpy as np
import pytest

from mmalign.errors import UserError
from modalities.pointcloud import MODALITY
from modalities.pointcloud.augment import rotation_about
from modalities.pointcloud.features.aligned import AlignedShape, align, rectangle_axes
from modalities.pointcloud.features.descriptors import ALIGNED, DESCRIPTORS, describe, families
from modalities.pointcloud.features.normal_histograms import BY_AXIS, BY_LEVEL, OUTWARD, normal_histograms
from modalities.pointcloud.features.point_pairs import FEATURES, OFFSETS, point_pairs
from modalities.pointcloud.features.shape_features import shape_features
from modalities.pointcloud.features.symmetry import ANGLES, symmetry
from modalities.pointcloud.features.views import CELLS, views

Arrays = tuple[np.ndarray, np.ndarray]


def box(x: float, y: float, z: float, count: int = 6000) -> Arrays:
    """Points on the surface of a box, uniform by area, and their outward normals."""
    rng, sizes = np.random.default_rng(0), np.array([x, y, z])
    areas = sizes.prod() / sizes
    axis = rng.choice(3, count, p=areas / areas.sum())
    normals = np.eye(3)[axis] * rng.choice([-1, 1], count)[:, None]
    points = np.where(normals != 0, normals / 2, rng.random((count, 3)) - 0.5) * sizes
    return points.astype(np.float32), normals.astype(np.float32)


def sphere(count: int = 8000) -> Arrays:
    """A grid of Fibonacci on a sphere of radius 3."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - height**2)
    normals = np.column_stack([ring * np.cos(angle), ring * np.sin(angle), height]).astype(np.float32)
    return 3 * normals, normals


def cylinder(radius: float, height: float, count: int = 8000) -> Arrays:
    """An upright cylinder with both lids."""
    rng, angle = np.random.default_rng(0), np.random.default_rng(1).random(count) * 2 * np.pi
    lid = rng.random(count) < radius / (radius + height)  # 2 pi r^2 of 2 pi r (r + h)
    side, ring = rng.choice([-1, 1], count), np.column_stack([np.cos(angle), np.sin(angle)])
    level = np.where(lid, side / 2, rng.random(count) - 0.5) * height
    away = np.where(lid, radius * np.sqrt(rng.random(count)), radius)
    points = np.column_stack([ring * away[:, None], level])
    normals = np.where(lid[:, None], np.column_stack([np.zeros((count, 2)), side]), np.column_stack([ring, 0 * level]))
    return points.astype(np.float32), normals.astype(np.float32)


def rod(count: int = 4001) -> AlignedShape:
    """A rod along x of length 1."""
    points = np.column_stack([np.linspace(-0.5, 0.5, count), np.zeros((count, 2))])
    return align(points.astype(np.float32), np.tile(np.float32([0, 0, 1]), (count, 1)))


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.2, 2.0])
def test_the_frame_of_a_turned_box_is_parallel_to_its_walls(turn: float) -> None:
    points, normals = box(2, 2, 1)  # square: its principal directions are arbitrary
    matrix = rotation_about(2, turn).T
    shape = align((points @ matrix + [5, -2, 7]).astype(np.float32), (normals @ matrix).astype(np.float32))
    np.testing.assert_allclose(np.ptp(shape.unit, axis=0), [1, 1, 0.5], atol=1e-4)
    np.testing.assert_allclose(np.abs(shape.normals).max(1), 1, atol=1e-4)
    np.testing.assert_allclose(np.ptp(shape.cube, axis=0), 1)
    axes = rectangle_axes(points[:, :2] @ [[0.6, 0.8], [-0.8, 0.6]])
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_the_long_side_of_a_box_is_the_first_axis() -> None:
    for size in ((4, 2, 1), (2, 4, 1)):
        np.testing.assert_allclose(np.ptp(align(box(*size)[0]).unit, axis=0), [1, 0.5, 0.25], atol=1e-4)


def test_normals_of_a_cylinder_have_the_fractions_of_its_areas() -> None:
    values = normal_histograms(align(*cylinder(1.0, 3.0)))
    by_level = values["normal_by_level"].reshape(BY_LEVEL) ** 2
    np.testing.assert_allclose(by_level[4], 0.75 / 10, atol=0.01)  # the side: h / (r + h), at all heights alike
    np.testing.assert_allclose([by_level[8, -1], by_level[0, 0]], 0.125, atol=0.01)  # the upper lid on top
    outward = values["normal_outward"].reshape(OUTWARD) ** 2
    np.testing.assert_allclose(outward[3, 1], 0.75 / 5, atol=0.01)  # the side points away from the axis
    by_axis = values["normal_by_axis"].reshape(BY_AXIS)[:, :, 2] ** 2
    edges = 2 / np.pi * np.arcsin(np.linspace(0, 1, 5))  # |cos| of a uniform angle
    np.testing.assert_allclose(by_axis.sum(1), 0.75 * np.diff(edges), atol=0.015)
    np.testing.assert_allclose(by_axis.sum(0), 0.75 * np.diff(edges), atol=0.015)


def test_pairs_of_a_rod_have_triangular_distances() -> None:
    values = point_pairs(rod())["pair_offset"].reshape(OFFSETS) ** 2
    edges = np.minimum(np.linspace(0, 1.4, 11), 1)
    np.testing.assert_allclose(values[:, 0], np.diff(1 - (1 - edges) ** 2), atol=0.01)
    assert not values[:, 1:].any()


def test_pair_features_of_a_sphere() -> None:
    """Of a chord of length L in a sphere of diameter 1: P(L < l) = l^2, |n.d| / L = L at both ends, n.m = 1 - 2 L^2."""
    values = point_pairs(align(*sphere()))["pair_feature"].reshape(FEATURES) ** 2
    chord = np.sqrt((np.arange(200_000) + 0.5) / 200_000)
    expected = np.zeros(FEATURES)
    angle = (chord * 4).astype(int).clip(0, 3)
    np.add.at(expected, ((chord / 0.3).astype(int), angle, angle, ((2 - 2 * chord**2) * 2).astype(int)), 1 / 200_000)
    np.testing.assert_allclose(values, expected, atol=0.012)


def test_symmetry_of_a_sphere_a_box_and_a_rod() -> None:
    spacing = np.sqrt(0.02)  # roots: neighbours are about 0.01 apart
    assert max(map(np.max, symmetry(align(*sphere())).values())) < spacing
    values = symmetry(align(*box(4, 2, 1)))
    assert values["mirror"].max() < np.sqrt(0.03)
    assert values["rotation"][0] < np.sqrt(0.03)  # by 180 degrees
    assert values["rotation"][2] > np.sqrt(0.05)  # by 90 degrees
    turned = symmetry(rod())["rotation"].reshape(-1, 2) ** 2
    for angle, (mean, quantile) in zip(np.deg2rad(ANGLES), turned, strict=True):
        # A point at t is |t sin a| from the rod, if its foot is on it; t is uniform in -1/2..1/2.
        assert mean == pytest.approx(abs(np.sin(angle)) / 4, abs=1e-3)
        assert quantile == pytest.approx(abs(np.sin(angle)) * 0.475, abs=2e-3)


def test_views_of_a_cylinder_and_of_a_box() -> None:
    centre = (np.arange(CELLS) + 0.5) / CELLS - 0.5
    distance = np.hypot(*np.meshgrid(centre, centre))
    seen = {name: values.reshape(2, CELLS, CELLS) for name, values in views(align(*cylinder(1.0, 3.0))).items()}
    assert (seen["above"][0][distance < 0.5] == 1).all()
    assert (seen["above"][0][distance > 0.5 + 2**0.5 / CELLS / 2] == 0).all()
    for name in ("front", "side"):
        assert (seen[name][0] == 1).all()
    for plane in views(align(*box(2, 2, 2))).values():
        assert (plane[: CELLS**2] == 1).all()
        assert (plane[CELLS**2 :] ** 2).sum() == pytest.approx(1, abs=0.02)  # fractions, but for the mirroring


def test_views_of_an_upright_cone_narrow_to_the_top() -> None:
    rng = np.random.default_rng(0)
    height, angle = 1 - np.sqrt(rng.random(20_000)), rng.random(20_000) * 2 * np.pi
    points = np.column_stack([(1 - height) * np.cos(angle), (1 - height) * np.sin(angle), 2 * height])
    front = views(align(points.astype(np.float32)))["front"][: CELLS**2].reshape(CELLS, CELLS)
    inner = np.abs(np.arange(CELLS) - (CELLS - 1) / 2) - 0.5  # of each column, in cells from the middle
    low = np.arange(CELLS)
    outside = inner[:, None] > (CELLS - low) / 2 + 0.1
    inside = inner[:, None] + 1 < (CELLS - low - 1) / 2
    assert (front[outside] == 0).all()
    assert (front[inside] == 1).all()
    assert outside.sum() > CELLS
    assert inside.sum() > CELLS


@pytest.mark.parametrize("name", list(ALIGNED))
def test_order_place_size_and_rotation_change_nothing_but_rounding(name: str) -> None:
    points, normals = box(3, 1.5, 2, count=3000)
    points *= 1 + 0.1 * points[:, :1]  # lopsided
    order, matrix = np.random.default_rng(1).permutation(len(points)), rotation_about(2, 0.8).T
    one = describe(points, normals, [name])
    assert (describe(points[order], normals[order], [name]) == one).all()
    moved = (points @ matrix * 7 + [3, 4, 5]).astype(np.float32)
    other = describe(moved, (normals @ matrix).astype(np.float32), [name])
    assert np.abs(one - other).mean() < 0.02  # pairs and every eighth point follow the order of coordinates


def test_descriptor_shape_equals_shape_features() -> None:
    points, normals = box(3, 1, 2)
    assert (describe(points, normals) == shape_features(points, normals)).all()
    both = describe(points, normals, ["symmetry", "shape"])
    assert (both[18:] == shape_features(points, normals)).all()


def test_degenerate_clouds_have_finite_descriptors() -> None:
    for points in (np.zeros((8, 3)), np.eye(3)[[0, 1, 2] * 3], np.linspace(0, 1, 30)[:, None] * np.ones(3)):
        values = describe(points.astype(np.float32), None, DESCRIPTORS)
        assert values.shape == (sum(families(DESCRIPTORS).values()),)
        assert np.isfinite(values).all()


def test_transform_restores_descriptors_and_defaults_to_shape() -> None:
    clouds = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(4)]
    transform = MODALITY.transform("features", {}, descriptors=["symmetry", "views"], normals=True)
    transform.fit(map(transform.featurise, clouds))
    config = json.loads(json.dumps(transform.config()))
    restored = MODALITY.restore_transform(config)
    ours, theirs = (each.collate([each.item(cloud) for cloud in clouds]) for each in (transform, restored))
    assert (ours["measures"] == theirs["measures"]).all()
    encoder = MODALITY.encoder("features", transform, width=8)
    assert encoder(ours).tokens.values.shape == (4, 5, 8)  # a token for each family
    before = MODALITY.transform("features", {})
    before.fit(map(before.featurise, clouds))
    old = {name: value for name, value in before.config().items() if name != "descriptors"}
    assert MODALITY.restore_transform(old).config() == before.config()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["veiws"], "did you mean 'views'"), (["shape", "shape"], "twice"), ([], "a list of shape"),
        ("shape", "expected a list as descriptors"), (3, "expected a list as descriptors"),
        ([3], "expected a list as descriptors"),
    ],
)  # fmt: skip
def test_descriptors_that_are_no_list_of_names_are_refused(value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MODALITY.transform("features", {}, descriptors=value)
