"""From a cloud to a batch: order, orientation, size, padding, augmentation."""

import numpy as np
import pytest
import torch

from mmalign.errors import BadSample, UserError
from modalities.pointcloud import MODALITY
from modalities.pointcloud.augment import rotation_about
from modalities.pointcloud.picture import draw_cloud
from modalities.pointcloud.sample import PointCloud
from modalities.pointcloud.transform import PointCloudSettings, PointCloudTransform, turned


def cloud(size: int = 3000, seed: int = 0, **known: str) -> PointCloud:
    rng = np.random.default_rng(seed)
    points, colours, normals = rng.normal(size=(3, size, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return PointCloud(points * [3, 2, 1] + np.float32(7), np.abs(colours).clip(max=1), normals, **known)


def transform(**settings: object) -> PointCloudTransform:
    return MODALITY.transform("", {}, **settings)


def shuffled(sample: PointCloud) -> PointCloud:
    order = np.random.default_rng(9).permutation(len(sample))
    assert sample.colours is not None
    assert sample.normals is not None
    return PointCloud(sample.points[order], sample.colours[order], sample.normals[order], sample.up, sample.units)


@pytest.mark.parametrize("size", [40, 1024, 3000, 9000])
def test_the_order_of_points_changes_no_embedding(size: int) -> None:
    steps = transform(colours=True, normals=True)
    encoder = MODALITY.encoder("", steps).eval()
    first, again = (encoder(steps.collate([steps.item(one)])).vector for one in (cloud(size), shuffled(cloud(size))))
    torch.testing.assert_close(again, first, atol=1e-5, rtol=0)


def test_padding_is_never_read() -> None:
    steps = transform(colours=True)
    encoder = MODALITY.encoder("", steps).eval()
    batch = steps.collate([steps.item(cloud(size)) for size in (20, 700)])
    assert batch["mask"].sum(1).tolist() == [20, 700]
    assert batch["points"].shape == batch["colours"].shape == (2, 700, 3)
    spoilt = {name: values.clone() for name, values in batch.items()}
    for name in ("points", "colours"):
        assert batch[name][~batch["mask"]].eq(0).all()
        spoilt[name][~batch["mask"]] = 1e3
    torch.testing.assert_close(encoder(spoilt).vector, encoder(batch).vector, atol=0, rtol=0)


def test_position_and_size_are_taken_out() -> None:
    sample = cloud()
    item = transform().item(sample)
    radius = np.linalg.norm(transform(points=3000, pool=3000).item(sample)["points"], axis=1)
    assert item["points"].shape == (1024, 3)
    assert item["points"].dtype == np.float32
    assert radius.max() == pytest.approx(1, abs=1e-6)
    other = PointCloud(sample.points * 4 - np.float32(100))
    np.testing.assert_allclose(transform().item(other)["points"], item["points"], atol=2e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e9])
def test_very_small_and_very_large_clouds_have_the_unit_radius(scale: float) -> None:
    points = transform(points=3000, pool=3000).item(PointCloud((cloud().points * scale).astype(np.float32)))["points"]
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-5)


def test_true_size_needs_units_and_keeps_metres() -> None:
    sample = cloud()
    with pytest.raises(UserError, match="needs the units"):
        transform(scale="metres")
    item = transform(scale="metres", units="mm", points=3000, pool=3000).item(sample)
    np.testing.assert_allclose(item["points"].std(0), sample.points.std(0) / 1000, rtol=1e-5)
    np.testing.assert_allclose(item["points"].mean(0), 0, atol=1e-6)


def test_a_file_of_another_up_axis_or_unit_is_refused() -> None:
    with pytest.raises(BadSample, match=r"up axis y, as the setting up states, got a file whose format defines z"):
        transform().item(cloud(up="z"))
    with pytest.raises(BadSample, match="the unit mm"):
        transform(units="mm").item(cloud(units="m"))
    assert transform(up="z").item(cloud(up="z"))["points"].shape == (1024, 3)
    assert transform().item(cloud(units="m"))["points"].shape == (1024, 3)


def test_changing_the_up_axis_keeps_handedness_and_is_invertible() -> None:
    assert np.linalg.det(turned(np.eye(3), "y")) == pytest.approx(1)
    np.testing.assert_array_equal(turned(turned(np.eye(3), "y"), "z"), np.eye(3))
    assert turned(np.array([[0, 1, 0]]), "y").tolist() == [[0, 0, 1]]
    plain, other = transform(normals=True).item(cloud()), transform(turned_up="z", normals=True).item(cloud())
    for name in ("points", "normals"):
        np.testing.assert_allclose(other[name], turned(plain[name], "y"))
    assert transform(turned_up="z").settings.vertical == 2


def test_missing_colours_are_grey_and_missing_normals_zero() -> None:
    item = transform(colours=True, normals=True).item(PointCloud(cloud().points))
    assert np.unique(item["colours"]).tolist() == [np.float32(0.4)]
    assert not item["normals"].any()
    assert set(transform().item(cloud())) == {"points"}


def test_colours_and_normals_stay_with_their_points() -> None:
    sample = cloud()
    marked = PointCloud(sample.points, (sample.points - sample.points.min()) / np.ptp(sample.points), sample.points)
    item = transform(colours=True, normals=True).item(marked)
    flat = [(item[name] - item[name].mean()) / item[name].std() for name in ("points", "colours", "normals")]
    for values in flat[1:]:
        assert np.corrcoef(values[:, 0], flat[0][:, 0])[0, 1] == pytest.approx(1, abs=1e-5)


def test_rotation_keeps_height_length_and_normals() -> None:
    for up in ("y", "z"):
        steps = transform(up=up, rotation=180.0, normals=True, points=3000, pool=3000)
        features = steps.featurise(cloud())
        item = steps(features, np.random.default_rng(0))
        order, axis = np.random.default_rng(0).permutation(3000), "xyz".index(up)
        before = {name: values[order] for name, values in features.items()}
        for name in ("points", "normals"):
            np.testing.assert_allclose(item[name][:, axis], before[name][:, axis], atol=1e-6)
            lengths = [np.linalg.norm(values[name], axis=1) for values in (item, before)]
            np.testing.assert_allclose(lengths[0], lengths[1], atol=1e-6)
        assert not np.allclose(item["points"], before["points"])
        angles = [(values["points"] * values["normals"]).sum(1) for values in (item, before)]
        np.testing.assert_allclose(angles[0], angles[1], atol=1e-5)  # normals turn with their points
        matrix = rotation_about(axis, 1.0)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)


def test_augmentation_has_the_stated_size() -> None:
    steps = transform(points=3000, pool=3000, jitter=0.02, scaling=0.2)
    features = steps.featurise(cloud())
    plain = transform(points=3000, pool=3000)
    factors = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        moved = steps(features, rng)["points"]
        still = plain(features, np.random.default_rng(seed))["points"]
        factor = float((moved * still).sum() / (still * still).sum())
        factors.append(factor)
        assert np.std(moved - factor * still) == pytest.approx(0.02, rel=0.05)
        assert np.abs(moved - factor * still).max() < 0.11
    assert np.exp(-0.2) - 5e-3 < min(factors) < 0.85
    assert 1.18 < max(factors) < np.exp(0.2) + 5e-3


def test_training_draws_other_points_and_drops_some() -> None:
    steps = transform(point_dropout=0.8)
    features = steps.featurise(cloud())
    sizes = [len(steps(features, np.random.default_rng(seed))["points"]) for seed in range(200)]
    assert min(sizes) >= 204
    assert min(sizes) < 260
    assert max(sizes) > 960
    first, again = (transform()(features, np.random.default_rng(seed))["points"] for seed in (0, 1))
    both = {tuple(row) for row in first.tolist()} & {tuple(row) for row in again.tolist()}
    assert 200 < len(both) < 500  # 1024 of 3000 twice: 350 in common
    greys = transform(colours=True, colour_dropout=0.5)
    rich = greys.featurise(cloud())
    grey = [np.ptp(greys(rich, np.random.default_rng(seed))["colours"]) == 0 for seed in range(200)]
    assert 0.35 < np.mean(grey) < 0.65


def test_features_are_not_changed_by_training() -> None:
    steps = transform(rotation=180.0, jitter=0.1, scaling=0.3, point_dropout=0.5, colours=True, colour_dropout=1.0)
    sample = cloud()
    points = sample.points.copy()
    features = steps.featurise(sample)
    before = {name: values.copy() for name, values in features.items()}
    steps(features, np.random.default_rng(0))
    for name, values in before.items():
        np.testing.assert_array_equal(features[name], values)
    np.testing.assert_array_equal(sample.points, points)


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": 0}, {"points": 2.5}, {"points": 100, "pool": 50}, {"up": "x"}, {"turned_up": "up"}, {"units": "km"},
        {"scale": "cube"}, {"colours": 1}, {"rotation": 181}, {"jitter": -1}, {"scaling": True}, {"point_dropout": 1.0},
        {"colour_dropout": float("nan")},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"pointcloud transform: .*{'pool' if 'pool' in wrong else next(iter(wrong))}"):
        transform(**wrong)


def test_a_cloud_is_drawn_upright() -> None:
    from matplotlib.figure import Figure

    pole = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32) * np.float32([0.1, 0.1, 5])
    axes = Figure().subplots()
    draw_cloud(PointCloud(pole, up="z"), axes)
    assert np.ptp(axes.collections[0].get_facecolor()[:, :3].mean(1)) > 0.5  # shaded by depth
    offsets = np.ma.getdata(axes.collections[0].get_offsets())
    assert np.ptp(offsets[:, 1]) > 5 * np.ptp(offsets[:, 0])


def test_a_coloured_cloud_is_drawn_in_its_colours() -> None:
    from matplotlib.figure import Figure

    sample = cloud(200)
    axes = Figure().subplots()
    draw_cloud(PointCloud(sample.points, np.tile(np.float32([1, 0, 0]), (200, 1))), axes)
    colours = axes.collections[0].get_facecolor()
    assert colours[:, 0].max() == pytest.approx(1)
    assert not colours[:, 1:3].any()


def test_settings_round_trip_through_config() -> None:
    steps = transform(points=64, colours=True, rotation=30.0)
    assert MODALITY.restore_transform(steps.config()).config() == steps.config()
    assert PointCloudSettings.make(steps.config()) == steps.settings
