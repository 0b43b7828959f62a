"""Pictures, perturbations and key frames."""

import numpy as np
from matplotlib.figure import Figure

from modalities.video.bounds import sampled
from modalities.video.key_frames import key_frames
from modalities.video.perturb import perturb_video
from modalities.video.picture import draw_clip, outlined
from modalities.video.sample import Clip, Tracks
from modalities.video.synthetic import synthetic_clip
from modalities.video.transform import VideoSettings, VideoTransform


def scene(changes: list[int], count: int = 60) -> np.ndarray:
    """A picture whose colour changes at these frames, by different amounts."""
    frames = np.zeros((count, 16, 16, 3), np.uint8)
    for number, index in enumerate(changes):
        frames[index:] = 40 * (number + 1)
    return frames


def test_key_frames_are_the_changes_in_order() -> None:
    assert key_frames(scene([11, 30, 31]), 4).tolist() == [0, 11, 30, 31]
    item = VideoTransform(VideoSettings(frames=4, size=8, sampling="keyframes")).item(Clip(scene([11, 30, 31]), 10.0))
    assert item["frames"][:, 0, 0, 0].tolist() == [0, 40, 80, 120]
    np.testing.assert_allclose(item["times"], [0.05, 1.15, 3.05, 3.15], rtol=1e-6)


def test_key_frames_of_a_still_scene_are_uniform() -> None:
    assert set(key_frames(scene([]), 16)) <= {0, *sampled(60, 16).tolist()}
    assert len(np.unique(key_frames(scene([5]), 16))) == 16
    assert key_frames(scene([], 5), 16).tolist() == [0, 1, 2, 3, 4]
    assert key_frames(scene([5]), 1).tolist() == [0]


def test_outline_of_an_object_has_one_colour_in_all_frames() -> None:
    labels = np.zeros((6, 40, 40), np.int32)
    for index in range(6):
        labels[index, 10:20, 5 * index + 2 : 5 * index + 10] = index + 1
    tracks = Tracks(labels, np.arange(1, 7, dtype=np.int32)[None])  # ids of each frame, one trajectory
    clip = Clip(np.full((6, 40, 40, 3), 128, np.uint8), 5.0, tracks)
    painted = outlined(clip)
    corners = {tuple(painted[index, 10, 5 * index + 2]) for index in range(6)}
    assert len(corners) == 1
    assert corners != {(128, 128, 128)}
    assert (painted[:, 14:16, :][labels[:, 14:16] == 0].reshape(-1, 3)[0] == 128).all()
    assert (clip.frames == 128).all()


def test_strip_shows_times() -> None:
    axes = Figure().subplots()
    draw_clip(synthetic_clip(3, np.random.default_rng(0)), axes)
    assert axes.texts[0].get_text() == "0.00 s"
    assert len(axes.texts) == 6


def test_masks_follow_dropped_frames() -> None:
    clip = synthetic_clip(3, np.random.default_rng(0))
    perturbed = perturb_video(clip, "dropped_frames", 0.5, np.random.default_rng(1))
    assert len(perturbed) == len(clip)
    assert clip.tracks is not None
    assert perturbed.tracks is not None
    for frame, labels in zip(perturbed.frames, perturbed.tracks.labels, strict=True):
        index = next(i for i, one in enumerate(clip.frames) if np.array_equal(one, frame))
        np.testing.assert_array_equal(labels, clip.tracks.labels[index])
