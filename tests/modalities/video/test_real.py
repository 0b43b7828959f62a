"""Clips of cameras and phones from three data sets decode, each to the frames that its container lists."""

from pathlib import Path

import pytest

from modalities.video.read import read_video

FOLDERS = {"intel_videos": 35, "hmdb51_sample": 5, "nasa_video": 1}
SUFFIXES = {".mkv", ".mp4", ".avi", ".gif"}


@pytest.mark.real
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("folder", list(FOLDERS))
def test_real_clips_are_decoded(folder: str, step: int, real_data: Path) -> None:
    """Every fourth clip; the slow tests decode all."""
    if not (real_data / folder).is_dir():
        pytest.skip(f"no videos at {real_data / folder}")
    files = sorted(path for path in (real_data / folder).rglob("*") if path.suffix in SUFFIXES)
    assert len(files) == FOLDERS[folder]
    for path in files[::step]:
        clip = read_video(path)
        assert 20 <= len(clip) <= 256
        assert 1 < clip.seconds < 150
        assert min(clip.frames.shape[1:3]) <= 256
        assert clip.frames.std() > 10
        assert clip.faults == ()
