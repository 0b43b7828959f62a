"""Clips and trajectories: types, bounds, and the table of global ids."""

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.video.sample import Clip, Tracks, check_clip


def frames(time: int = 4, height: int = 10, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (time, height, width, 3), np.uint8)


def tracks(time: int = 4, height: int = 10, width: int = 12) -> Tracks:
    return Tracks.from_labels(np.random.default_rng(1).integers(0, 500, (time, height, width)))


def test_table_of_global_ids_states_where_each_id_occurs() -> None:
    made = tracks()
    ids = sorted(set(made.labels.ravel().tolist()) - {0})
    assert max(ids) > 255
    assert len(made) == len(ids)
    for row, label in zip(made.table, ids, strict=True):
        assert row.tolist() == [label if label in frame else 0 for frame in made.labels]


def test_labels_without_an_id_have_no_trajectory() -> None:
    made = Tracks.from_labels(np.zeros((3, 8, 8), np.uint8))
    assert made.table.shape == (0, 3)
    check_clip("x", Clip(frames(3, 8, 8), 5.0, made))


def test_frames_of_trajectories_are_selected_together() -> None:
    made = tracks()
    part = made.at(np.array([2, 2, 0]))
    np.testing.assert_array_equal(part.labels, made.labels[[2, 2, 0]])
    np.testing.assert_array_equal(part.table, made.table[:, [2, 2, 0]])


def test_good_clip_passes_and_equals_its_copy_only() -> None:
    clip = check_clip("x", Clip(frames(), 5.0, tracks()))
    assert clip == Clip(frames(), 5.0, tracks())
    assert clip != Clip(frames(), 5.0)
    assert clip != Clip(frames(), 6.0, tracks())
    assert clip.seconds == 4 / 5
    assert clip.nbytes == clip.frames.nbytes + clip.tracks.labels.nbytes + clip.tracks.table.nbytes


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip(frames().astype(np.float32), 5.0), "uint8 frames"),
        (Clip(frames()[..., 0], 5.0), "uint8 frames"),
        (Clip([1, 2], 5.0), "uint8 frames"),
        (Clip(frames(0), 5.0), "1 to 256 frames, got none"),
        (Clip(frames(257), 5.0), "1 to 256 frames, got 257"),
        (Clip(frames(height=7), 5.0), "8 to 1024 pixels"),
        (Clip(frames(1, width=1025), 5.0), "8 to 1024 pixels"),
        (Clip(frames(), float("nan")), "a rate"),
        (Clip(frames(), 0.0), "a rate"),
        (Clip(frames(), 5.0, tracks(height=9)), "the frames' shape"),
        (Clip(frames(), 5.0, tracks(time=3)), "the frames' shape"),
        (Clip(frames(), 5.0, Tracks(tracks().labels, tracks().table[:, :3])), "a table of"),
        (Clip(frames(), 5.0, Tracks(tracks().labels.astype(np.int64), tracks().table)), "int32 ids"),
        (Clip(frames(), 5.0, Tracks(-tracks().labels, tracks().table)), "a negative one"),
        (Clip(frames(), 5.0, Tracks(tracks().labels, -tracks().table)), "a negative one"),
        (Clip(frames(), 5.0, Tracks(tracks().labels, tracks().table[:20])), "the largest of the table"),
    ],
)
def test_bad_clip_is_rejected(clip: Clip, message: str) -> None:
    with pytest.raises(BadSample, match=message):
        check_clip("x", clip)
