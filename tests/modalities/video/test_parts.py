"""Parts of a clip, named in its path: the frames of that window, or a clear error."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign.data.files.folder import FolderStore
from mmalign.errors import BadSample
from modalities.video import MODALITY
from modalities.video.read import read_video
from tests.modalities.video.video_files import numbered, numbers_of, write_video

PARTS = {
    "t=3,9.5": range(30, 95),
    "t=,1": range(10),
    "t=9": range(90, 100),
    "t=npt:1,2": range(10, 20),
    "t=9,1000": range(90, 100),
    "part=2of5": range(20, 40),
    "part=1of1": range(100),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One film of ten seconds in several formats."""
    path = tmp_path_factory.mktemp("films")
    pictures = [numbered(index) for index in range(100)]
    (path / "film.mp4").write_bytes(write_video(pictures))
    (path / "film.avi").write_bytes(write_video(pictures, "avi", "mpeg4"))
    np.savez(path / "film.npz", frames=np.stack(pictures), rate=10)
    (path / "frames").mkdir()
    for index in range(48):
        Image.fromarray(pictures[index]).save(path / "frames" / f"{index}.png")
    return path


@pytest.mark.parametrize("part", list(PARTS))
@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "film.npz"])
def test_part_has_the_frames_of_its_window(folder: Path, name: str, part: str) -> None:
    clip = read_video(f"{folder / name}#{part}")
    assert numbers_of(clip.frames) == list(PARTS[part])
    assert clip.rate == pytest.approx(10)


def test_equal_parts_cover_the_clip_once(folder: Path) -> None:
    shown = [numbers_of(read_video(f"{folder / 'film.mp4'}#part={number}of7").frames) for number in range(1, 8)]
    assert sorted({frame for part in shown for frame in part}) == list(range(100))
    assert sum(map(len, shown)) <= 107


def test_a_short_part_has_one_frame(folder: Path) -> None:
    assert numbers_of(read_video(f"{folder / 'film.mp4'}#t=5.01,5.02").frames) == [50]


def test_a_part_of_a_folder(folder: Path) -> None:
    assert numbers_of(read_video(f"{folder / 'frames'}#t=1").frames) == list(range(24, 48))


@pytest.mark.parametrize("part", ["t=9,3", "t=", "t=a", "part=0of3", "part=4of3", "part=1of0", "x", "t=11,12"])
def test_wrong_parts_are_named(folder: Path, part: str) -> None:
    with pytest.raises(BadSample, match="a part"):
        read_video(f"{folder / 'film.mp4'}#{part}")


def test_file_name_with_a_hash_is_not_a_part(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "film#t=3,4").write_bytes((folder / "film.mp4").read_bytes())
    assert len(read_video(tmp_path / "film#t=3,4")) == 100
    assert numbers_of(read_video(f"{tmp_path / 'film#t=3,4'}#t=0,0.3").frames) == [0, 1, 2]


def test_tables_name_parts_and_folders(folder: Path) -> None:
    store = FolderStore(folder)
    assert numbers_of(MODALITY.read(store.fetch("film.mp4#part=2of5")).frames) == list(range(20, 40))
    assert len(MODALITY.read(store.fetch("frames"))) == 48
    assert [path.name for path in MODALITY.files_read(store.fetch("film.mp4#t=1,2"))] == ["film.mp4"]
    assert len(MODALITY.files_read(store.fetch("frames"))) == 48
    for name in ("../film.mp4#t=1,2", "nowhere.mp4#t=1,2"):
        with pytest.raises(BadSample):
            store.fetch(name)
