"""Shape features: invariances, a shape with known values, degenerate clouds."""

import numpy as np
import pytest

from modalities.pointcloud.features.shape_features import FAMILIES, WIDTH, shape_features


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


def test_moving_and_turning_about_the_up_axis_change_nothing_but_rounding() -> None:
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
    for name in ("distance", "angle", "height", "radius", "height_radius", "pair"):
        assert (family(values, name) ** 2).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "points",
    [np.zeros((8, 3)), np.repeat(np.eye(3), 3, axis=0), np.linspace(0, 1, 30).reshape(-1, 1) * np.ones(3)],
    ids=["one place", "three places", "a line"],
)
def test_degenerate_clouds_have_finite_features(points: np.ndarray) -> None:
    values = shape_features(points.astype(np.float32))
    assert values.shape == (WIDTH,)
    assert np.isfinite(values).all()
