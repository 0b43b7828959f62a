"""Trajectories in the transform: from masks or made, at the times and the size of the frames."""

import numpy as np
import pytest
import torch

from mmalign.errors import BadSample
from modalities.video import MODALITY
from modalities.video.sample import Clip, Tracks


def masked_clip(frames: int = 8) -> Clip:
    """A square moves right over a background; its id is that of the frame."""
    labels = np.zeros((frames, 40, 40), np.int32)
    for t in range(frames):
        labels[t, 10:30, 2 * t : 2 * t + 20] = t + 1
    pixels = np.where(labels[..., None] > 0, np.uint8(200), np.uint8(30)).repeat(3, axis=3)
    return Clip(pixels, 8.0, Tracks(labels, np.arange(1, frames + 1, dtype=np.int32)[None]))


def test_masks_become_segments_of_the_sampled_frames() -> None:
    transform = MODALITY.transform("trajvit", {}, size=20, frames=4, cell=4, tracks="masks")
    segments = transform.collate([transform.item(masked_clip())])["segments"]
    assert segments.shape == (1, 4, 5, 5)
    clip = masked_clip()
    assert clip.tracks is not None
    for place, time in enumerate((1, 3, 5, 7)):  # the middle of four equal intervals of eight frames
        middle = np.arange(5) * 8 + 4  # centres of the cells, in pixels of the clip
        own = clip.tracks.labels[time][middle[:, None], middle] > 0
        np.testing.assert_array_equal(segments[0, place].numpy() == 0, own)  # 1 = the background
        assert set(segments[0, place].flatten().tolist()) == {0, 1}


def test_masked_frames_have_no_segments() -> None:
    transform = MODALITY.transform("trajvit", {}, size=32, frames=12, tracks="masks")
    inputs = transform.collate([transform.item(masked_clip())])
    assert inputs["mask"].sum() == 8
    assert (inputs["segments"][:, 8:] == -1).all()
    assert (inputs["segments"][:, :8] >= 0).all()


@pytest.mark.parametrize("tracks", ["supervoxels", "flow", "grid"])
def test_trajectories_without_masks(tracks: str) -> None:
    clip = masked_clip()
    transform = MODALITY.transform("trajvit", {}, size=32, frames=8, tracks=tracks, segments=9)
    segments = transform.collate([transform.item(Clip(clip.frames, clip.rate))])["segments"]
    assert segments.min() == 0
    assert 2 <= len(segments.unique()) <= 128
    torch.testing.assert_close(segments.unique(), torch.arange(int(segments.max()) + 1))


def test_encoders_choose_how_trajectories_are_made() -> None:
    assert MODALITY.transform("trajvit", {}).settings.tracks == "supervoxels"
    assert MODALITY.transform("", {}).settings.tracks == "supervoxels"
    assert MODALITY.transform("trajvit", {}, tracks="grid").settings.tracks == "grid"
    for encoder in ("trajtok", "vit3d", "frames"):
        assert MODALITY.transform(encoder, {}).settings.tracks == "none"


def test_a_clip_without_masks_names_the_other_ways() -> None:
    clip = masked_clip()
    with pytest.raises(BadSample, match="supervoxels"):
        MODALITY.transform("trajvit", {}, size=32, tracks="masks").item(Clip(clip.frames, clip.rate))
