"""Mappings and NPZ files: right frames and trajectories, or a clear error."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmalign.errors import BadSample
from modalities.video.read import read_video
from modalities.video.sample import Clip, Tracks

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 12, 16, 3), np.uint8)
LABELS = RNG.integers(0, 300, (6, 12, 16))


def test_mapping_npz_and_clip_agree(tmp_path: Path) -> None:
    clip = Clip(FRAMES, 5.0, Tracks.from_labels(LABELS))
    np.savez_compressed(tmp_path / "a.npz", frames=FRAMES, rate=5.0, labels=LABELS)
    assert read_video({"frames": FRAMES, "rate": 5, "labels": LABELS}) == clip
    assert read_video({"frames": torch.from_numpy(FRAMES), "rate": np.float32(5), "labels": LABELS.tolist()}) == clip
    assert read_video(tmp_path / "a.npz") == clip
    assert read_video((tmp_path / "a.npz").read_bytes()) == clip
    assert read_video(clip) is clip


def test_grey_frames_become_colour() -> None:
    clip = read_video({"frames": FRAMES[..., 0], "rate": 5})
    np.testing.assert_array_equal(clip.frames, np.repeat(FRAMES[..., :1], 3, axis=3))


def test_long_clip_is_sampled_with_its_labels_and_keeps_its_duration() -> None:
    count = 1000
    frames = (np.arange(count) % 251).astype(np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    labels = np.arange(1, count + 1)[:, None, None].repeat(8, 1).repeat(8, 2)
    clip = read_video({"frames": frames, "rate": 50, "labels": labels, "table": np.diag(np.arange(1, count + 1))})
    assert len(clip) == 256
    assert clip.seconds == pytest.approx(20)
    assert clip.tracks is not None
    indices = clip.tracks.labels[:, 0, 0] - 1
    np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], indices % 251)
    np.testing.assert_allclose(indices, (np.arange(256) + 0.5) * count / 256, atol=1)
    assert (clip.tracks.table[indices, np.arange(256)] == indices + 1).all()


def test_large_frames_are_reduced_with_their_labels() -> None:
    labels = np.zeros((2, 600, 800), np.uint16)
    labels[:, 150:450, 200:600] = 700
    frames = np.where(labels[..., None] > 0, 200, 50).astype(np.uint8).repeat(3, 3)
    clip = read_video({"frames": frames, "rate": 5, "labels": labels})
    assert clip.frames.shape == (2, 256, 341, 3)
    assert clip.tracks is not None
    assert ((clip.frames[..., 0] > 125) == (clip.tracks.labels > 0)).mean() > 0.999
    assert clip.tracks.table.tolist() == [[700, 700]]


def test_table_links_ids_of_each_frame() -> None:
    labels = np.tile(np.array([1, 2, 3, 0]), (2, 8, 4))
    clip = read_video({"frames": FRAMES[:2, :8], "rate": 5, "labels": labels, "table": [[1, 3], [2, 0]]})
    assert clip.tracks is not None
    assert clip.tracks.table.tolist() == [[1, 3], [2, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": None}, "no rate"),
        ({"frames": None}, "no frames"),
        ({"rate": 0}, "a rate"),
        ({"rate": float("nan")}, "a rate"),
        ({"rate": True}, "a rate"),
        ({"rate": "fast"}, "a rate"),
        ({"rate": np.array([1, 2])}, "a rate"),
        ({"rate": np.array("a")}, "a rate"),
        ({"frames": FRAMES.astype(float)}, "of float64"),
        ({"frames": FRAMES[..., :2]}, "of uint8"),
        ({"frames": FRAMES[:0]}, "at least 8 pixels"),
        ({"frames": FRAMES[:, :4]}, "at least 8 pixels"),
        ({"frames": [[1], [2, 3]]}, "no array"),
        ({"labels": LABELS[:3]}, "labels of 6 frames"),
        ({"labels": LABELS[0]}, "labels of"),
        ({"labels": LABELS.astype(float)}, "integers in labels"),
        ({"labels": LABELS.astype(object)}, "integers in labels"),
        ({"labels": -LABELS}, "ids in 0"),
        ({"labels": LABELS + 2**31}, "ids in 0"),
        ({"labels": LABELS.astype(np.uint64) + np.uint64(2**63)}, "ids in 0"),
        ({"labels": LABELS, "table": np.ones((3, 5), int)}, "a table of shape"),
        ({"labels": LABELS, "table": np.ones((3, 6), int)}, "the largest of the table"),
        ({"labels": LABELS, "table": np.full((3, 6), -1)}, "ids in 0"),
        ({"table": np.ones((3, 6), int)}, "a table alone"),
    ],
)
def test_bad_mapping_is_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSample, match=message):
        read_video({"frames": FRAMES, "rate": 5} | change)


def test_inconsistent_archives_and_pickles_are_rejected(tmp_path: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**10, 2**10)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("frames.npy", head.getvalue() + b"\0" * 100)
    with pytest.raises(BadSample, match="as its header states"):
        read_video(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", frames=FRAMES, rate=5.0, labels=np.array([object()]))
    with pytest.raises(BadSample, match="Python objects"):
        read_video(tmp_path / "b.npz")
    whole = io.BytesIO()
    np.savez_compressed(whole, frames=FRAMES, rate=5.0)
    for end in (10, 200, len(whole.getvalue()) // 2):
        with pytest.raises(BadSample, match="NPZ"):
            read_video(whole.getvalue()[:end])


@pytest.mark.parametrize("junk", [None, 3, [], object(), b"", b"junk", FRAMES, "nowhere.npz"])
def test_random_bytes_are_a_bad_sample(junk: object) -> None:
    with pytest.raises(BadSample):
        read_video(junk)
