"""Frames and trajectories go through sampling, resizing and augmentation together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from modalities.video.augment import View
from modalities.video.bounds import sampled
from modalities.video.sample import Clip
from modalities.video.synthetic import RATE, synthetic_clip
from modalities.video.transform import VideoSettings, VideoTransform, compact


def numbered(count: int, height: int = 16, width: int = 16) -> Clip:
    """Each frame has the grey level of its index."""
    levels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Clip(np.broadcast_to(levels, (count, height, width, 3)).copy(), 10.0)


@pytest.mark.parametrize("count", [1, 5, 16, 17, 100, 256])
def test_frames_are_the_middles_of_equal_intervals(count: int) -> None:
    item = VideoTransform(VideoSettings(size=16)).item(numbered(count))
    kept = min(count, 16)
    expected = [int((k + 0.5) * count / kept) for k in range(kept)]
    expected += [expected[-1]] * (16 - kept)
    assert item["frames"][:, 0, 0, 0].tolist() == expected
    assert item["mask"].tolist() == [True] * kept + [False] * (16 - kept)
    np.testing.assert_allclose(item["times"], (np.array(expected) + 0.5) / 10, rtol=1e-6)


def test_sampling_twice_keeps_the_times() -> None:
    """A long clip that was bounded while reading gives nearly the frames of the whole one."""
    whole, bounded = sampled(9000, 16), sampled(9000)[sampled(256, 16)]
    assert np.abs(whole - bounded).max() <= 9000 / 256


@pytest.mark.parametrize("crop", ["squash", "centre", "pad"])
@pytest.mark.parametrize("shape", [(16, 16), (40, 60), (61, 33)])
def test_crop_shows_the_stated_part(crop: str, shape: tuple[int, int]) -> None:
    """A gradient in x and y survives resizing: its value states which source pixel an output pixel shows."""
    height, width = shape
    frames = np.zeros((2, *shape, 3), np.uint8)
    frames[..., 0], frames[..., 1] = 3 * np.arange(height)[:, None], 3 * np.arange(width)[None, :]
    frames[..., 2] = 200
    item = (
        VideoTransform(VideoSettings(frames=2, size=24, crop=crop)).item(Clip(frames, 5.0))["frames"][0].astype(float)
    )
    assert item.shape == (24, 24, 3)
    if crop == "pad":
        inner = round(24 * height / max(shape)), round(24 * width / max(shape))
        top, left = (24 - inner[0]) // 2, (24 - inner[1]) // 2
        assert (item[..., 2] > 0).sum() == inner[0] * inner[1]
        item = item[top : top + inner[0], left : left + inner[1]]
        box = (0, 0, height, width)
    elif crop == "centre":
        side = min(shape)
        box = ((height - side) // 2, (width - side) // 2, side, side)
    else:
        box = (0, 0, height, width)
    rows = box[0] + (np.arange(len(item)) + 0.5) * box[2] / len(item) - 0.5
    columns = box[1] + (np.arange(item.shape[1]) + 0.5) * box[3] / item.shape[1] - 0.5
    inside = np.s_[2:-2, 2:-2]  # the filter is cut off at the border
    np.testing.assert_allclose(item[..., 0][inside], np.broadcast_to(3 * rows[:, None], item.shape[:2])[inside], atol=1)
    np.testing.assert_allclose(item[..., 1][inside], np.broadcast_to(3 * columns, item.shape[:2])[inside], atol=1)


def test_batch_layout() -> None:
    transform = VideoTransform(VideoSettings(size=24, frames=6))
    clips = [synthetic_clip(label, np.random.default_rng(label)) for label in range(3)]
    batch = transform.collate([transform.item(clip) for clip in clips])
    assert batch["frames"].shape == (3, 6, 3, 24, 24)
    assert batch["frames"].dtype == torch.uint8
    assert batch["mask"].dtype == torch.bool
    assert batch["times"].dtype == torch.float32
    item = transform.item(clips[1])
    assert batch["frames"][1, 2, :, 3, 4].tolist() == item["frames"][2, 3, 4].tolist()


def test_flipping_twice_is_the_identity() -> None:
    clip = synthetic_clip(4, np.random.default_rng(0))
    assert clip.tracks is not None
    view = View((0, 0, 48, 48), mirrored=True)
    np.testing.assert_array_equal(view.frames(view.frames(clip.frames)), clip.frames)
    np.testing.assert_array_equal(view.labels(view.labels(clip.tracks.labels, 48), 48), clip.tracks.labels)
    assert not np.array_equal(view.frames(clip.frames), clip.frames)


def test_views_keep_pixels_and_labels_together() -> None:
    """Frames that show their own labels: after any view, each cell's label is the colour at its centre."""
    labels = np.kron(np.random.default_rng(0).integers(1, 9, (3, 6, 6)), np.ones((8, 8), int))  # blocks of 8 pixels
    frames = np.repeat((20 * labels)[..., None], 3, axis=3).astype(np.uint8)
    rng, agreeing = np.random.default_rng(1), []
    for _ in range(50):
        view = View.draw(48, rng, random_crop=0.2, flip=True)
        cells, shown = view.labels(labels, 12), view.frames(frames)[:, 2::4, 2::4, 0]
        agreeing.append(np.abs(shown / 20 - cells) < 0.5)  # blended pixels at the borders of blocks do not agree
    assert np.mean(agreeing) > 0.85
    shifted = view.labels(np.roll(labels, 8, axis=2), 12)
    assert np.mean(np.abs(shown / 20 - shifted) < 0.5) < 0.4


def test_augmentation_is_off_unless_set_and_deterministic_without_generator() -> None:
    clip = synthetic_clip(2, np.random.default_rng(0))
    plain = VideoTransform(VideoSettings(size=24))
    np.testing.assert_array_equal(
        plain.item(clip)["frames"], plain.item(clip, np.random.default_rng(0))["frames"], strict=True
    )
    lively = VideoTransform(replace(plain.settings, random_crop=0.3, flip=True, colour=0.4))
    np.testing.assert_array_equal(plain.item(clip)["frames"], lively.item(clip)["frames"])
    assert not np.array_equal(plain.item(clip)["frames"], lively.item(clip, np.random.default_rng(0))["frames"])


def test_colour_changes_all_frames_by_the_same_factors() -> None:
    frames = np.full((4, 16, 16, 3), 100, np.uint8)
    item = VideoTransform(VideoSettings(frames=4, size=16, colour=0.5)).item(
        Clip(frames, 4.0), np.random.default_rng(3)
    )
    assert len(np.unique(item["frames"])) == 1
    assert item["frames"][0, 0, 0, 0] != 100


def test_compact_indices_have_no_gaps() -> None:
    indices = compact(np.array([[0, 7, 7], [300, 2, 0]]))
    assert indices.tolist() == [[-1, 1, 1], [2, 0, -1]]
    assert compact(np.zeros((2, 2), int)).tolist() == [[-1, -1], [-1, -1]]


def test_toy_classes_of_turning_colours_differ_in_order_alone() -> None:
    """Frames of yellow (3, 8) and violet (4, 9) are the same set; only their order in time differs."""
    for first in (3, 4):
        one, other = (synthetic_clip(label, np.random.default_rng(7)).tracks for label in (first, first + 5))
        assert one is not None
        assert other is not None
        centres = [np.array([np.nonzero(frame)[1].mean() for frame in tracks.labels]) for tracks in (one, other)]
        assert np.corrcoef(*centres)[0, 1] < -0.99
        np.testing.assert_allclose(np.sort(centres[0]), np.sort(centres[1]), atol=1.0)
        assert synthetic_clip(first, np.random.default_rng(7)).rate == RATE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames must be an integer in 1..256"),
        ({"frames": True}, "expected a whole number as frames"),
        ({"size": 30}, "cell must divide size"),
        ({"crop": "center"}, "did you mean 'centre'"),
        ({"tracks": "sam"}, "tracks cannot be 'sam'"),
        ({"mean": [1, 2]}, "mean must be three numbers"),
        ({"std": [0, 1, 1]}, "std must be positive"),
        ({"random_crop": 0}, "random_crop must be in"),
        ({"colour": 2}, "colour must be in"),
        ({"flip": 1}, "expected true or false as flip"),
        ({"frame": 3}, "did you mean 'frames'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VideoSettings.make(settings)
