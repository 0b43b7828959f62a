"""Groups of points as units of an explanation, and pictures."""

import numpy as np
from matplotlib.figure import Figure

from modalities.pointcloud import MODALITY
from modalities.pointcloud.explain import GroupedCloud, group_labels
from modalities.pointcloud.render import render
from modalities.pointcloud.sample import PointCloud

ARGS = {"groups": 6, "group_size": 8, "width": 16, "depth": 1, "heads": 2}


def test_every_point_belongs_to_the_nearest_group() -> None:
    sample = MODALITY.toy_sample(3, np.random.default_rng(0))
    transform = MODALITY.transform("point_transformer", ARGS)
    labels = MODALITY.token_labels(
        sample, transform, MODALITY.encoder("point_transformer", transform, **ARGS), "tokens", 6
    )
    assert labels is not None
    assert len(set(labels.labels)) == 6
    np.testing.assert_array_equal(labels.members, np.eye(6))
    shown = labels.shown
    assert isinstance(shown, GroupedCloud)
    assert len(shown.group) == len(shown.cloud) == 512
    assert set(shown.group.tolist()) == set(range(6))


def test_a_cloud_of_few_points_has_fewer_groups() -> None:
    sample = PointCloud(np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    args = {**ARGS, "groups": 12}
    transform = MODALITY.transform("point_transformer", args)
    labels = group_labels(sample, transform, MODALITY.encoder("point_transformer", transform, **args), 12)
    assert labels is not None
    assert labels.members.shape == (8, 12)


def test_other_encoders_have_no_groups() -> None:
    sample = MODALITY.toy_sample(3, np.random.default_rng(0))
    transform = MODALITY.transform("pointnet2", {})
    assert MODALITY.token_labels(sample, transform, MODALITY.encoder("pointnet2", transform), "tokens", 64) is None


def test_weights_colour_the_points_of_their_group() -> None:
    points = np.array([[0, 0, 0], [0, 1, 0], [5, 0, 0], [5, 1, 0]], dtype=np.float32)
    axes = Figure().subplots()
    MODALITY.weighted_picture(GroupedCloud(PointCloud(points), np.array([0, 0, 1, 1])), axes, [0.0, 2.0])
    assert len(axes.collections) == 3  # views
    front = axes.collections[1]
    place = np.ma.getdata(front.get_offsets())
    place = place[:, 0] - place[:, 0].min()
    reddish = front.get_facecolor()[:, 0] - front.get_facecolor()[:, 2]
    assert (reddish[place > 4] > 0.8).all()
    assert (np.abs(reddish[place < 1]) < 1e-9).all()


def test_near_points_are_brighter_in_a_rendered_view() -> None:
    points = np.array([[-1, 0, -1], [1, 0, 1]], dtype=np.float32)
    image = render(points, 32, azimuth=0, elevation=0)[:, :, 0]
    assert image[:, :16].max() < image[:, 16:].max() == 255


def test_a_point_higher_up_is_drawn_higher_up() -> None:
    image = render(np.array([[0, 0, 0], [0, 5, 0], [0, 5, 0]], dtype=np.float32), 32, azimuth=0, elevation=0)[:, :, 0]
    rows = np.flatnonzero(image.any(1))
    assert rows.min() < 12
    assert rows.max() > 20
