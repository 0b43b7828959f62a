"""Masks, stitching, merging and the map of trajectories."""

import io
from functools import partial

import numpy as np
import pytest

from mmalign.errors import BadSample, UserError
from modalities.video.sample import Tracks
from modalities.video.trajectories import METHODS, from_masks, make, stitch, trajectory_map
from modalities.video.trajectories.merging import merge_similar
from tests.modalities.video.trajectories.scenes import same_partition, scene


def loop_map(tracks: Tracks, max_tracks: int) -> np.ndarray:
    """The definition, pixel by pixel, where no segment is named twice in a frame."""
    owner = np.zeros(tracks.labels.shape, int)
    for index, row in enumerate(tracks.table):
        for time, segment in enumerate(row):
            if segment:
                owner[time][tracks.labels[time] == segment] = index + 1
    sizes = {index: int((owner == index).sum()) for index in range(1, len(tracks.table) + 1)}
    kept = sorted((index for index in sizes if sizes[index]), key=lambda index: (-sizes[index], index))
    if len(kept) > max_tracks or (owner == 0).any():
        kept = kept[: max_tracks - 1]
    kept.sort()
    return np.array([[[kept.index(i) + 1 if i in kept else len(kept) + 1 for i in r] for r in f] for f in owner])


def random_tracks(seed: int, covered: bool = False) -> Tracks:
    """Per-frame ids, permuted in each frame; some trajectories absent."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(int(covered), 8, (5, 6, 7))
    table = np.stack([rng.permutation(np.arange(1, 8)) for _ in range(5)], axis=1)
    if not covered:
        table[rng.random(table.shape) < 0.3] = 0
    return Tracks(labels.astype(np.int32), table.astype(np.int32))


@pytest.mark.parametrize("max_tracks", [1, 3, 7, 8, 100])
@pytest.mark.parametrize("covered", [True, False])
def test_map_equals_its_definition(max_tracks: int, covered: bool) -> None:
    for seed in range(10):
        tracks = random_tracks(seed, covered)
        found = trajectory_map(tracks, max_tracks)
        np.testing.assert_array_equal(found, loop_map(tracks, max_tracks))
        assert found.min() >= 1
        assert found.max() <= max_tracks


def test_relabelling_the_segments_of_each_frame_does_not_change_the_map() -> None:
    tracks, rng = random_tracks(1), np.random.default_rng(2)
    labels, table = np.zeros_like(tracks.labels), np.zeros_like(tracks.table)
    for time in range(5):
        names = np.concatenate([[0], 1 + rng.permutation(1 << 20)[:7]])  # also ids far above 255
        labels[time], table[:, time] = names[tracks.labels[time]], names[tracks.table[:, time]]
    np.testing.assert_array_equal(trajectory_map(Tracks(labels, table), 5), trajectory_map(tracks, 5))


def test_permuting_the_trajectories_permutes_the_map() -> None:
    tracks = random_tracks(3)
    shuffled = Tracks(tracks.labels, tracks.table[::-1].copy())
    assert same_partition(trajectory_map(tracks, 100), trajectory_map(shuffled, 100))


def test_the_largest_are_kept_and_the_rest_is_background() -> None:
    labels = np.array([[[1, 1, 1, 2, 2, 3]], [[1, 1, 1, 2, 2, 3]]], np.int32)
    assert trajectory_map(Tracks.from_labels(labels), 2).tolist() == [[[1, 1, 1, 2, 2, 2]]] * 2
    assert trajectory_map(Tracks.from_labels(labels), 3).tolist() == labels.tolist()


def test_a_segment_that_two_trajectories_name_goes_to_the_larger() -> None:
    labels = np.array([[[5, 5, 0]], [[6, 5, 5]]], np.int32)
    tracks = Tracks(labels, np.array([[5, 6], [5, 5]], np.int32))
    assert trajectory_map(tracks, 9).tolist() == [[[2, 2, 3]], [[1, 2, 2]]]


def test_trajvit_files_round_trip() -> None:
    """uint8 per-frame ids and an int64 table, as the release stores them."""
    tracks = random_tracks(4)
    mask, graph = io.BytesIO(), io.BytesIO()
    np.savez(mask, tracks.labels.astype(np.uint8))
    np.savez(graph, tensor=tracks.table.astype(np.int64))
    mask.seek(0), graph.seek(0)
    labels = np.load(mask, allow_pickle=False)["arr_0"].astype(np.int32)
    table = np.load(graph, allow_pickle=False)["tensor"].astype(np.int32)
    np.testing.assert_array_equal(trajectory_map(Tracks(labels, table), 6), loop_map(tracks, 6))


def test_clips_without_any_segment_are_background() -> None:
    empty = Tracks.from_labels(np.zeros((2, 3, 3), np.int32))
    assert (trajectory_map(empty, 4) == 1).all()
    assert (trajectory_map(Tracks(np.ones((2, 3, 3), np.int32), np.zeros((0, 2), np.int32)), 4) == 1).all()


def test_overlapping_masks_go_to_the_smaller_object_and_ids_are_never_summed() -> None:
    """Ids 3 and 5 overlap; the released code makes a segment 8 of the overlap."""
    masks = np.zeros((8, 2, 4, 6), bool)
    masks[2, :, :, :4] = True
    masks[4, 0, 1:3, 2:6] = True  # smaller
    masks[4, 1, :, 1:6] = True  # larger
    tracks = from_masks(list(masks))
    assert set(np.unique(tracks.labels)) == {0, 3, 5}
    assert (tracks.labels[0, 1:3, 2:4] == 5).all()
    assert (tracks.labels[1, :, 1:4] == 3).all()
    assert tracks.table.tolist() == [[i, i] if i in (3, 5) else [0, 0] for i in range(1, 9)]


def test_three_hundred_objects() -> None:
    masks = np.zeros((300, 2, 20, 20), bool)
    masks[np.arange(300), :, np.arange(300) // 20, np.arange(300) % 20] = True
    tracks = from_masks(list(masks))
    assert len(np.unique(tracks.labels)) == 301
    assert trajectory_map(tracks, 400).max() == 301  # with the background
    capped = trajectory_map(tracks, 128)
    assert np.array_equal(np.unique(capped), np.arange(1, 129))


def test_masks_of_different_shapes_or_none_are_refused() -> None:
    with pytest.raises(BadSample, match="all of one shape"):
        from_masks([np.ones((1, 2, 2), bool), np.ones((1, 2, 3), bool)])
    with pytest.raises(BadSample, match="at least one"):
        from_masks([])


def test_stitching_is_one_to_one() -> None:
    """Two new segments both have their best partner in the old one; only the better of them continues it."""
    first = np.ones((2, 1, 10), np.int32)
    second = np.array([[[1] * 6 + [2] * 4]] * 2, np.int32)
    found = stitch([first, second])
    assert found.shape == (3, 1, 10)
    assert found[2].tolist() == [[1] * 6 + [2] * 4]


def test_stitching_ignores_names_and_background() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 6, (1, 8, 8)), 9, 0).astype(np.int32)
    names = np.array([0, 40, 3, 900, 17, 5], np.int32)
    found = stitch([labels[:4], names[labels[3:7]], labels[6:]])
    assert same_partition(found, labels)
    assert (found[labels == 0] == 0).all()
    with pytest.raises(ValueError, match="at least one window"):
        stitch([])


def test_merging_follows_the_most_similar_pair_first() -> None:
    labels = np.array([[[1, 2, 3, 4]]], np.int32)
    colours = np.array([[[[0.0], [0.3], [0.5], [0.95]]]], np.float32)
    assert merge_similar(labels, colours, 0.1).tolist() == [[[1, 2, 3, 4]]]
    assert merge_similar(labels, colours, 0.35).tolist() == [[[1, 2, 2, 3]]]  # 2 and 3, whose mean 0.4 is far from 1
    assert merge_similar(labels, colours, 2.0).tolist() == [[[1, 1, 1, 1]]]
    apart = np.array([[[0.0], [0.9], [0.0], [0.9]]], np.float32)[None]
    assert merge_similar(labels, apart, 0.5).tolist() == [[[1, 2, 3, 4]]]  # equal colours that do not touch


def test_segments_that_are_hardly_seen_join_their_most_similar_neighbour() -> None:
    """A segment that is not seen at all stays apart: nobody sees that it is small."""
    labels = np.array([[[1, 2, 3, 4]]], np.int32)
    colours = np.array([[[[0.0], [0.3], [0.5], [0.95]]]], np.float32)
    merge = partial(merge_similar, labels, colours, 0.0)
    assert merge(seen=np.array([0, 9, 2, 9, 9]), least=5.0).tolist() == [[[1, 2, 2, 3]]]
    assert merge(seen=np.array([0, 9, 0, 9, 9]), least=5.0).tolist() == [[[1, 2, 3, 4]]]
    assert merge(seen=np.array([0, 1, 1, 3, 1]), least=2.0).tolist() == [[[1, 1, 2, 2]]]
    assert merge(seen=np.array([0, 1, 1, 1, 1]), least=9.0).tolist() == [[[1, 1, 1, 1]]]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_covers_real_frames_and_only_these(method: str) -> None:
    frames, masks = scene(6)
    real = np.array([True] * 4 + [False] * 2)
    found = make(frames, real, method=method, tracks=from_masks(list(masks)), max_tracks=10)
    assert (found[:4] >= 1).all()
    assert found.max() <= 10
    assert (found[4:] == 0).all()
    assert (make(frames, np.zeros(6, bool), method=method) == 0).all()


def test_masks_are_used_as_they_are() -> None:
    frames, masks = scene(6, speeds=(2.0, -2.0))
    found = make(frames, method="masks", tracks=from_masks(list(masks)))
    assert np.array_equal(found == 1, masks[0])
    assert np.array_equal(found == 2, masks[1])
    assert np.array_equal(found == 3, ~masks.any(0))


def test_invalid_use_is_explained() -> None:
    frames, masks = scene(3)
    with pytest.raises(BadSample, match="supervoxels, flow or grid"):
        make(frames, method="masks")
    with pytest.raises(BadSample, match="masks of shape"):
        make(frames[:2], method="masks", tracks=from_masks(list(masks)))
    with pytest.raises(UserError, match="supervoxel"):
        make(frames, method="supervoxel")
