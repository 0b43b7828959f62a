"""Frames are chosen by time; what is missing is masked; augmentation moves a clip as a whole; settings are JSON."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from modalities.echo import MODALITY
from modalities.echo.sample import Echo


def ramp(count: int, rate: float, shape: tuple[int, int] = (16, 16)) -> Echo:
    """Frame i is all of grey level i."""
    return Echo(np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, *shape)).copy(), rate)


def item(clip: Echo, rng: np.random.Generator | None = None, **settings: Any) -> dict[str, np.ndarray]:
    return MODALITY.transform("frames", {}, **({"size": 16} | settings))(clip, rng)


def levels(made: dict[str, np.ndarray]) -> list[int]:
    return made["frames"][:, 8, 8].tolist()


@pytest.mark.parametrize(
    ("rate", "wanted", "expected"),
    [
        (15.0, 15.0, [12, 13, 14, 15, 16, 17, 18, 19]),  # the middle 8 of 32
        (30.0, 15.0, [9, 11, 13, 15, 17, 19, 21, 23]),
        (15.0, 30.0, [14, 14, 15, 15, 16, 16, 17, 17]),
    ],
)
def test_inference_takes_the_middle_at_the_wanted_rate(rate: float, wanted: float, expected: list[int]) -> None:
    made = item(ramp(32, rate), rate=wanted, frames=8)
    assert levels(made) == expected
    assert made["mask"].all()


@pytest.mark.parametrize("rate", [25.0, 30.0, 50.0, 60.0, 23.7])
@pytest.mark.parametrize("times", [2, 3])
def test_each_frame_stored_several_times_at_a_multiple_of_the_rate_changes_nothing(rate: float, times: int) -> None:
    rng = np.random.default_rng(0)
    clip = Echo(rng.integers(0, 256, (41, 20, 20), dtype=np.uint8), rate)
    more = Echo(np.repeat(clip.frames, times, axis=0), rate * times)
    for training in (False, True):
        one, two = (item(x, np.random.default_rng(3) if training else None, frames=12) for x in (clip, more))
        np.testing.assert_array_equal(one["frames"], two["frames"])


def test_linear_sampling_of_a_steady_change_is_that_change() -> None:
    """Grey level = 2 x time in frames of the clip: what lies in between is known."""
    clip = ramp(60, 50.0)
    clip = Echo(clip.frames * 4, 50.0)
    made = item(clip, rate=30.0, frames=20, sampling="linear")
    start = (60 / 50 - 20 / 30) / 2
    expected = 4 * ((start + (np.arange(20) + 0.5) / 30) * 50 - 0.5)
    np.testing.assert_allclose(levels(made), expected, atol=0.51)


def test_short_clips_are_masked_or_repeated() -> None:
    padded = item(ramp(5, 15.0), frames=8)
    assert levels(padded) == [0, 1, 2, 3, 4, 4, 4, 4]
    assert padded["mask"].tolist() == [True] * 5 + [False] * 3
    looped = item(ramp(5, 15.0), frames=8, short="loop")
    assert levels(looped) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert looped["mask"].all()


def test_a_clip_that_is_shorter_than_one_tick_keeps_one_frame() -> None:
    made = item(ramp(2, 1000.0), frames=4)
    assert made["mask"].tolist() == [True, False, False, False]


def test_training_crops_anywhere_within_the_clip() -> None:
    clip, starts = ramp(60, 15.0), set()
    for seed in range(60):
        found = levels(item(clip, np.random.default_rng(seed), frames=16))
        assert np.diff(found).tolist() == [1] * 15
        starts.add(found[0])
    assert len(starts) > 20
    assert min(starts) < 5
    assert max(starts) > 39


def test_jitter_keeps_the_order_of_frames() -> None:
    clip = ramp(120, 120.0)
    for seed in range(20):
        found = levels(item(clip, np.random.default_rng(seed), frames=12, jitter=0.5))
        steps = np.diff(found)
        assert (steps >= 0).all()
        assert len(set(steps.tolist())) > 2
        assert steps.max() <= 17


def test_padding_keeps_all_pixels_and_the_aspect_ratio() -> None:
    clip = Echo(np.full((20, 30, 60), 100, np.uint8), 15.0)
    made = item(clip, size=24)["frames"]
    assert (made[:, 6:18] == 100).all()
    assert (made[:, :6] == 0).all()
    assert (made[:, 18:] == 0).all()
    assert (item(clip, size=24, crop="squash")["frames"] == 100).all()
    marked = clip.frames.copy()
    marked[:, :, :15] = marked[:, :, 45:] = 7  # what the centre crop cuts
    assert (item(Echo(marked, 15.0), size=24, crop="centre")["frames"] == 100).all()


def test_resizing_averages_speckle_away() -> None:
    """Without a filter against aliasing a fine pattern would stay as strong as it was."""
    stripes = np.tile((np.arange(64) % 4 == 1) * 200, (20, 64, 1)).astype(np.uint8)
    assert np.abs(item(Echo(stripes, 15.0), size=16)["frames"].astype(int)[:, 2:-2, 2:-2] - 50).max() <= 2


def test_a_frame_of_the_right_size_is_not_touched() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(item(Echo(frames, 15.0))["frames"], frames)


def spot(y: int, x: int, side: int = 33) -> Echo:
    frames = np.zeros((16, side, side), np.uint8)
    frames[:, y - 1 : y + 2, x - 1 : x + 2] = 200
    return Echo(frames, 15.0)


def centre(frame: np.ndarray) -> np.ndarray:
    y, x = np.indices(frame.shape)
    return np.array([(y * frame).sum(), (x * frame).sum()]) / frame.sum()


def test_a_shift_is_the_same_for_all_frames_and_within_its_bound() -> None:
    moves = []
    for seed in range(40):
        frames = item(spot(16, 16), np.random.default_rng(seed), size=33, shift=0.2)["frames"]
        assert (frames == frames[0]).all()
        moves.append(centre(frames[0].astype(float)) - 16)
    assert np.abs(moves).max() <= 0.2 * 33 + 0.1
    assert np.abs(moves).max(0).min() > 0.12 * 33
    assert np.abs(np.mean(moves, axis=0)).max() < 2


def test_a_rotation_keeps_the_distance_from_the_centre() -> None:
    angles = []
    for seed in range(40):
        frame = item(spot(16, 26), np.random.default_rng(seed), size=33, rotation=30.0)["frames"][0]
        y, x = centre(frame.astype(float)) - 16
        assert np.hypot(y, x) == pytest.approx(10, abs=0.2)
        angles.append(np.rad2deg(np.arctan2(y, x)))
    assert np.abs(angles).max() <= 30.5
    assert max(angles) > 20
    assert min(angles) < -20


def test_gain_multiplies_and_black_stays_black() -> None:
    frames = np.tile(np.array([0, 40, 80], np.uint8), (16, 3, 1)).repeat(8, 1).repeat(8, 2)
    seen = []
    for seed in range(30):
        row = item(Echo(frames, 15.0), np.random.default_rng(seed), size=24, gain=0.5)["frames"][0, 12, [0, 12, 20]]
        row = row.astype(float)
        assert row[0] == 0
        assert row[2] == pytest.approx(2 * row[1], abs=1)
        seen.append(row[1] / 40)
    assert min(seen) >= np.exp(-0.5) - 0.02
    assert max(seen) <= np.exp(0.5) + 0.02
    assert max(seen) / min(seen) > 1.8


def test_a_batch(heart: Echo) -> None:
    transform = MODALITY.transform("frames", {}, size=20, frames=7)
    batch = transform.collate([transform.item(heart), transform.item(ramp(3, 15.0))])
    assert batch["frames"].shape == (2, 7, 20, 20)
    assert batch["frames"].dtype == torch.uint8
    assert batch["mask"].sum(1).tolist() == [7, 3]


def test_settings_are_json() -> None:
    given = {"rate": 20, "frames": 8, "size": 64, "mean": [0.1, 0.2, 0.3], "std": 0.3, "crop": "squash", "gain": 0.1}
    transform = MODALITY.transform("frames", {}, **given)
    again = MODALITY.restore_transform(json.loads(json.dumps(transform.config())))
    assert again.settings == transform.settings
    assert again.sealed
    assert not transform.sealed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate": 0}, "rate must be in"),
        ({"rate": float("nan")}, "expected a number as rate"),
        ({"frames": 0}, "frames must be"),
        ({"frames": 2.5}, "expected a whole number as frames"),
        ({"size": True}, "expected a whole number as size"),
        ({"size": 5000}, "size must be"),
        ({"sampling": "cubic"}, "sampling cannot be"),
        ({"crop": "center"}, "centre"),
        ({"short": "mirror"}, "short cannot be"),
        ({"mean": [1, 2]}, "mean must be"),
        ({"mean": "0.1"}, "expected a number or a list as mean"),
        ({"std": 0}, "std must be positive"),
        ({"std": [0.1, 0.1, float("nan")]}, "expected a number or a list as std"),
        ({"jitter": 0.6}, "jitter must be in"),
        ({"shift": -0.1}, "shift must be in"),
        ({"rotation": 200}, "rotation must be in"),
        ({"gain": "much"}, "expected a number as gain"),
        ({"sise": 3}, "sise"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MODALITY.transform("frames", {}, **settings)
