"""Animations and folders of pictures: each frame at its time."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign.errors import BadSample
from modalities.video.read import read_video
from tests.modalities.video.video_files import numbered, numbers_of


def animation(form: str, durations: list[int], **options: object) -> bytes:
    stream = io.BytesIO()
    first, *rest = [Image.fromarray(numbered(index)) for index in range(len(durations))]
    first.save(stream, form, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("form", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
def test_animation_gives_frames_at_their_times(form: str, options: dict[str, object], tmp_path: Path) -> None:
    data = animation(form, [100] * 12, **options)
    clip = read_video(data)
    assert numbers_of(clip.frames) == list(range(12))
    assert clip.rate == pytest.approx(10)
    (tmp_path / "a").write_bytes(data)
    assert read_video(tmp_path / "a") == clip
    slow = read_video(animation(form, [100, 100, 400, 100], **options))
    assert numbers_of(slow.frames) == [0, 1, 2, 2, 2, 2, 3]
    assert slow.rate == pytest.approx(10)


def test_still_picture_is_one_frame() -> None:
    stream = io.BytesIO()
    Image.fromarray(numbered(7)).save(stream, "WEBP", lossless=True)
    assert numbers_of(read_video(stream.getvalue()).frames) == [7]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_truncated_animation_gives_frames_or_an_error(form: str, part: float) -> None:
    data = animation(form, [100] * 12)
    try:
        clip = read_video(data[: int(part * len(data))])
    except BadSample:
        return
    assert len(clip) <= 12


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for index in range(12):
        Image.fromarray(numbered(index)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    clip = read_video(tmp_path)
    assert numbers_of(clip.frames) == list(range(12))
    assert clip.rate == 24


def test_bad_folders_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadSample, match="a folder of 1 to"):
        read_video(tmp_path)
    Image.fromarray(numbered(0)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(BadSample, match="of one size"):
        read_video(tmp_path)
    (tmp_path / "1.png").unlink()
    (tmp_path / "1.png").symlink_to("/etc/hostname")
    with pytest.raises(BadSample, match="a link that leaves it"):
        read_video(tmp_path)
