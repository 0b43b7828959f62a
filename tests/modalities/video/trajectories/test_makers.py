"""Makers of trajectories: supervoxels, flow-linked superpixels, grid tubes."""

import tracemalloc
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import pytest

from modalities.video.shapes.appearance import draw_appearance
from modalities.video.shapes.render import render
from modalities.video.trajectories import flow_linked, grid_tubes, supervoxels
from tests.modalities.video.trajectories.scenes import dominant, same_partition, scene

MAKERS: list[Callable[..., np.ndarray]] = [supervoxels, flow_linked]


@pytest.mark.parametrize("maker", MAKERS)
def test_each_pixel_has_one_id_and_repeated_calls_agree(maker: Callable[..., np.ndarray]) -> None:
    frames, _ = scene(20)
    labels = maker(frames)
    assert labels.dtype == np.int32
    assert labels.shape == (20, 64, 64)
    assert np.array_equal(np.unique(labels), np.arange(1, labels.max() + 1))
    assert np.array_equal(labels, maker(frames.copy()))


@pytest.mark.parametrize("maker", MAKERS)
def test_a_translating_textured_square_is_one_trajectory(maker: Callable[..., np.ndarray]) -> None:
    """The square is about as large as a superpixel (a larger one may be several); in at least 9 of 10 clips."""
    followed = 0
    for seed in range(5):
        for speed in (1.0, 2.0):
            frames, masks = scene(speeds=(speed,), seed=seed)
            labels = maker(frames, segments=32)
            ids = dominant(labels, masks[0])
            covers, leaks = (labels[masks[0]] == ids[0]).mean(), (labels[~masks[0]] == ids[0]).mean()
            followed += len(set(ids)) == 1 and covers > 0.8 and leaks < 0.02
    assert followed >= 9


def test_flow_links_a_fast_square() -> None:
    frames, masks = scene(12, size=96, side=24, speeds=(5.0,))
    labels = flow_linked(frames)
    ids = dominant(labels, masks[0])
    assert len(set(ids)) == 1
    assert (labels[masks[0]] == ids[0]).mean() > 0.9


@pytest.mark.parametrize("maker", MAKERS)
def test_crossing_objects_are_two_trajectories(maker: Callable[..., np.ndarray]) -> None:
    frames, masks = scene(speeds=(2.0, -2.0))
    labels = maker(frames)
    before = [dominant(labels[:3], mask[:3]) for mask in masks]
    assert all(len(set(ids)) == 1 for ids in before)
    assert before[0][0] != before[1][0]
    after = [dominant(labels[-3:], mask[-3:]) for mask in masks]
    assert after[1] == before[1]  # the one in front keeps its id across the occlusion
    assert after[0][0] != after[1][0]


def test_crossing_objects_keep_their_own_supervoxels() -> None:
    frames, masks = scene(speeds=(2.0, -2.0))
    labels = supervoxels(frames)
    for mask in masks:
        ids = dominant(labels, mask)
        assert len(set(ids)) == 1


def test_a_static_clip_gives_trajectories_of_full_length() -> None:
    frames, _ = scene(40, speeds=(0.0,))
    linked = flow_linked(frames)
    assert linked.max() > 5
    assert all(np.array_equal(frame, linked[0]) for frame in linked)
    labels = supervoxels(frames)
    lengths = np.array([(labels == index).any((1, 2)).sum() for index in range(1, labels.max() + 1)])
    assert labels.max() > 5
    assert (lengths[labels - 1] == 40).mean() > 0.99
    assert (labels == labels[0]).mean() > 0.95  # borders move where layers of supervoxels meet


def test_windows_give_the_ids_of_the_whole_clip() -> None:
    """A plain red square and a plain blue one over a plain background, 60 frames: four windows against one."""
    frames = np.full((60, 40, 40, 3), 90, np.uint8)
    for time in range(60):
        frames[time, 4:14, time // 3 + 2 : time // 3 + 12] = (210, 40, 40)
        frames[time, 24:34, 28 - time // 3 : 38 - time // 3] = (40, 60, 220)
    whole, windows = supervoxels(frames, window=60), supervoxels(frames, window=16)
    assert whole.max() == 3
    assert same_partition(whole, windows)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_panning_camera_makes_few_more_trajectories(maker: Callable[..., np.ndarray]) -> None:
    """At most 1.5 times those of a still camera (TrajViT's claim), for a pan of 16 pixels of 64 in 16 frames."""
    for seed in range(3):
        still = maker(scene(speeds=(0.0,), seed=seed)[0]).max()
        panning = maker(scene(speeds=(0.0,), pan=1.0, seed=seed)[0]).max()
        assert panning <= 1.5 * still


@pytest.mark.parametrize("maker", MAKERS)
def test_one_frame_and_small_frames(maker: Callable[..., np.ndarray]) -> None:
    assert maker(scene(1)[0]).shape == (1, 64, 64)
    tiny = np.random.default_rng(0).integers(0, 255, (3, 8, 11, 3), dtype=np.uint8)
    assert maker(tiny).shape == (3, 8, 11)
    assert maker(tiny[:, :1, :1]).tolist() == [[[1]], [[1]], [[1]]] or maker is flow_linked


def test_memory_of_supervoxels_is_bounded_by_the_window() -> None:
    def peak(frames: int) -> float:
        clip = np.zeros((frames, 24, 24, 3), np.uint8)
        tracemalloc.start()
        labels = supervoxels(clip)
        most = tracemalloc.get_traced_memory()[1] - 3 * labels.nbytes  # pieces, their concatenation
        tracemalloc.stop()
        return most

    assert peak(240) < 1.5 * peak(30)


def test_flow_restores_the_number_of_threads() -> None:
    threads = cv2.getNumThreads()
    flow_linked(scene(2)[0])
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize(
    ("shape", "segments", "count"), [((3, 64, 64), 64, 64), ((1, 32, 64), 8, 8), ((2, 2, 3), 64, 6)]
)
def test_grid_tubes_have_the_requested_number_and_do_not_move(
    shape: tuple[int, int, int], segments: int, count: int
) -> None:
    labels = grid_tubes(shape, segments=segments)
    assert np.array_equal(np.unique(labels), np.arange(1, count + 1))
    assert all(np.array_equal(frame, labels[0]) for frame in labels)
    assert np.ptp(np.bincount(labels.ravel())[1:]) == 0


def test_windows_of_one_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 frames"):
        partial(supervoxels, window=1)(scene(4)[0])


@pytest.mark.parametrize(("maker", "least"), [(supervoxels, 0.7), (flow_linked, 0.55)])
def test_trajectories_overlap_with_the_true_masks_of_moving_shapes(
    maker: Callable[..., np.ndarray], least: float
) -> None:
    """Mean intersection over union, in space and time, of each moving shape and its best trajectory."""
    found = []
    for kind in range(0, 30, 3):
        shapes = draw_appearance(kind, np.random.default_rng(kind))
        frames, truth = render(shapes)
        labels = maker(frames)
        sizes = np.bincount(labels.ravel())
        for segment in range(len(shapes.bodies) - shapes.subjects + 1, len(shapes.bodies) + 1):
            inside = truth == segment
            common = np.bincount(labels[inside], minlength=len(sizes))
            found.append((common / (sizes + inside.sum() - common)).max())
    assert np.mean(found) > least
