"""Masks beside a clip become its trajectories, or a clear error."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmalign.errors import BadSample
from modalities.video.read import read_video
from modalities.video.transform import VideoSettings, VideoTransform
from tests.modalities.video.video_files import numbered, numbers_of, write_video

COUNT, HEIGHT, WIDTH = 20, 48, 112


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(write_video([numbered(index) for index in range(COUNT)]))
    return path


def moving(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH, step: int = 4) -> np.ndarray:
    """Id 1 moves right, id 300 stands below."""
    labels = np.zeros((count, height, width), np.int64)
    for index in range(count):
        labels[index, : height // 2, index * step : index * step + 10] = 1
    labels[:, -8:, -8:] = 300
    return labels


def test_trajvit_files_give_the_frames_of_their_masks(film: Path) -> None:
    """Masks are square and fewer than frames; ids are per frame and the graph links them."""
    labels = np.zeros((5, 64, 64), np.uint8)
    labels[:, :32], labels[:, 32:] = np.arange(1, 6)[:, None, None], 9
    np.savez_compressed(film.with_name("film_mask.npz"), labels)
    graph = np.array([[1, 2, 3, 4, 5], [9, 9, 0, 0, 0]])
    np.savez_compressed(film.with_name("film_graph.npz"), tensor=graph)
    clip = read_video(film)
    assert numbers_of(clip.frames) == [2, 6, 10, 14, 18]
    assert clip.seconds == pytest.approx(2)
    assert clip.tracks is not None
    assert clip.tracks.table.tolist() == graph.tolist()
    assert clip.tracks.labels[:, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert (clip.tracks.labels[:, -1] == 9).all()
    assert clip.tracks.labels.shape == clip.frames.shape[:3]


@pytest.mark.parametrize(
    ("codec", "layout", "suffix"),
    [("ffv1", "gray16le", ".mkv"), ("ffv1", "gray", ".avi"), ("png", "gray", ".mov"), ("rawvideo", "gray", ".mkv")],
)
def test_label_videos(film: Path, codec: str, layout: str, suffix: str) -> None:
    labels = moving().astype(np.uint16) if layout == "gray16le" else (moving() % 256).astype(np.uint8)
    form = {".mkv": "matroska"}.get(suffix, suffix[1:])
    film.with_name(f"film_mask{suffix}").write_bytes(write_video(labels, form, codec, layout, layout=layout))
    clip = read_video(film)
    assert clip.tracks is not None
    np.testing.assert_array_equal(clip.tracks.labels, labels)
    assert clip.tracks.table[:, 0].tolist() == [1, labels.max()]
    part = read_video(f"{film}#part=2of4")
    assert numbers_of(part.frames) == [5, 6, 7, 8, 9]
    assert part.tracks is not None
    np.testing.assert_array_equal(part.tracks.labels, labels[5:10])


def test_long_and_large_label_videos_keep_the_frames_and_ids_of_the_clip(tmp_path: Path) -> None:
    path, count = tmp_path / "film.mkv", 300
    path.write_bytes(write_video([numbered(index) for index in range(count)], "matroska"))
    labels = np.zeros((count, 336, 784), np.uint8)
    labels[:, :, :392] = np.arange(count)[:, None, None] % 200 + 1
    path.with_name("film_mask.mkv").write_bytes(write_video(labels, "matroska", "ffv1", "gray", layout="gray"))
    clip = read_video(path)
    assert clip.tracks is not None
    assert clip.tracks.labels.shape == (256, *clip.frames.shape[1:3])
    assert (clip.tracks.labels[:, 24, 10] == np.array(numbers_of(clip.frames)) % 200 + 1).all()
    assert not clip.tracks.labels[:, :, 60:].any()


@pytest.mark.parametrize(
    ("codec", "pixels", "message"),
    [("libx264", "yuv420p", "a lossless codec .*h264"), ("ffv1", "yuv420p", "grey levels .*yuv420p")],
)
def test_label_videos_that_may_change_ids_are_rejected(film: Path, codec: str, pixels: str, message: str) -> None:
    labels = (moving() % 256).astype(np.uint8)
    film.with_name("film_mask.mkv").write_bytes(write_video(labels, "matroska", codec, pixels, layout="gray"))
    with pytest.raises(BadSample, match=message):
        read_video(film)


def test_damaged_and_short_label_videos_are_rejected(film: Path) -> None:
    mask = film.with_name("film_mask.mkv")
    labels = (moving() % 256).astype(np.uint8)
    whole = write_video(labels, "matroska", "ffv1", "gray", layout="gray")
    for data in (b"", b"no video at all", whole[: len(whole) // 2]):
        mask.write_bytes(data)
        with pytest.raises(BadSample):
            read_video(film)
    mask.write_bytes(write_video(labels[:-4], "matroska", "ffv1", "gray", layout="gray"))
    with pytest.raises(BadSample, match="masks of 20 frames"):
        read_video(film)


def test_labels_of_more_than_255_ids_of_another_size(film: Path) -> None:
    labels = moving(height=2 * HEIGHT, width=2 * WIDTH)
    np.savez_compressed(film.with_name("film_mask.npz"), labels=labels)
    clip = read_video(film)
    assert numbers_of(clip.frames) == list(range(COUNT))
    assert clip.tracks is not None
    np.testing.assert_array_equal(clip.tracks.labels, labels[:, 1::2, 1::2])
    assert clip.tracks.table[:, 0].tolist() == [1, 300]


def test_masks_of_each_object_may_overlap(film: Path) -> None:
    masks = np.zeros((2, COUNT, HEIGHT, WIDTH), bool)
    masks[0, :, :, :60], masks[1, 3:, 10:20, 10:20] = True, True
    np.savez_compressed(film.with_name("film_mask.npz"), masks=masks)
    clip = read_video(film)
    assert clip.tracks is not None
    assert clip.tracks.labels[5, 15, 15] == 2
    assert clip.tracks.labels[0, 15, 15] == 1
    assert clip.tracks.table[1].tolist() == [0] * 3 + [2] * 17


def test_palettes_of_a_folder(film: Path) -> None:
    folder = film.with_name("film_masks")
    folder.mkdir()
    labels = moving()
    labels[labels == 300] = 200
    for index, frame in enumerate(labels):
        image = Image.fromarray(frame.astype(np.uint8))
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        image.save(folder / f"{index}.png")
    clip = read_video(film)
    assert clip.tracks is not None
    np.testing.assert_array_equal(clip.tracks.labels, labels)


def test_masks_follow_the_frames_into_a_part_and_an_item(film: Path) -> None:
    labels = np.broadcast_to(np.arange(1, COUNT + 1)[:, None, None], (COUNT, HEIGHT, WIDTH))
    np.savez_compressed(film.with_name("film_mask.npz"), labels=labels)
    clip = read_video(f"{film}#t=0.5,1.3")
    assert numbers_of(clip.frames) == list(range(5, 13))
    assert clip.tracks is not None
    assert (clip.tracks.labels[:, 0, 0] - 1).tolist() == list(range(5, 13))
    item = VideoTransform(VideoSettings(frames=4, size=32, tracks="masks")).item(clip)
    assert item["segments"].shape == (4, 8, 8)
    assert [len(np.unique(frame)) for frame in item["segments"]] == [1] * 4
    assert len(np.unique(item["segments"])) == 4


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": moving(count=7)}, "masks of 20 frames"),
        ({"labels": moving(height=112, width=48)}, "masks of the shape"),
        ({"labels": moving().astype(float)}, "integers in labels"),
        ({"labels": moving(), "table": np.ones((4, COUNT), int)}, "the largest of the table"),
        ({"labels": -moving()}, "ids in 0"),
        ({"labels": np.array([object()])}, "Python objects"),
        ({"masks": moving()}, "masks of shape"),
        ({"masks": moving()[None].astype(float)}, "masks of shape"),
        ({"arr_0": moving()}, "_graph.npz"),
        ({"arr_0": moving(), "tensor": np.ones((2, 9), int)}, "a table of shape"),
        ({"other": moving()}, "an array arr_0, labels or masks"),
    ],
)
def test_masks_that_do_not_fit_are_rejected(film: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez_compressed(film.with_name("film_mask.npz"), **arrays)
    with pytest.raises(BadSample, match=message):
        read_video(film)


def test_damaged_mask_files_are_rejected(film: Path) -> None:
    film.with_name("film_mask.npz").write_bytes(b"PK\x03\x04 junk")
    with pytest.raises(BadSample, match="NPZ"):
        read_video(film)
    film.with_name("film_mask.npz").unlink()
    folder = film.with_name("film_masks")
    folder.mkdir()
    stream = io.BytesIO()
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(stream, "PNG")
    (folder / "0.png").write_bytes(stream.getvalue())
    with pytest.raises(BadSample, match="palette indices"):
        read_video(film)
    (folder / "0.png").write_bytes(stream.getvalue()[:40])
    with pytest.raises(BadSample, match="damaged"):
        read_video(film)
