"""Damaged and hostile videos: right frames or a clear error, never a hang, a crash or another file."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.video.read import read_video
from tests.modalities.video.video_files import numbered, numbers_of, write_video

FILM = [numbered(index) for index in range(40)]
FILES = {
    "mp4": write_video(FILM),
    "mp4 with its index first": write_video(FILM, index_first=True),
    "avi": write_video(FILM, "avi", "mpeg4"),
    "matroska": write_video(FILM, "matroska"),
    "mpegts": write_video(FILM, "mpegts"),
}


def refused(source: object, *words: str) -> None:
    with pytest.raises(BadSample) as caught:
        read_video(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.7, 0.95])
def test_truncated_file_gives_its_first_frames_or_an_error(name: str, part: float) -> None:
    data = FILES[name][: int(part * len(FILES[name]))]
    try:
        clip = read_video(data)
    except BadSample:
        return
    shown = np.array(numbers_of(clip.frames))
    late = np.arange(len(shown)) - shown  # pictures between two others are lost with the later one
    assert late.min() == 0
    assert late.max() <= 8
    assert name == "mpegts" or len(clip) >= 38, "a header that states the duration shows the truncation"


@pytest.mark.parametrize("part", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("name", ["mp4", "mp4 with its index first", "matroska", "avi"])
def test_truncation_is_named(name: str, part: float) -> None:
    refused(FILES[name][: int(part * len(FILES[name]))], "expected")


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    refused(tmp_path / "empty.mp4", "an empty file")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    refused(tmp_path / "list.mp4", "got a text file")
    refused(tmp_path / "nowhere.mp4", "no such file")


def test_file_names_are_not_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a.mp4|b.mp4").write_bytes(FILES["mp4"])
    assert len(read_video("concat:a.mp4|b.mp4")) == 40


def test_files_with_audio_alone_are_rejected() -> None:
    import av

    for form, codec in (("mp4", "aac"), ("matroska", "pcm_s16le")):
        target = io.BytesIO()
        with av.open(target, "w", format=form) as file:
            track = file.add_stream(codec, rate=16000, layout="mono")
            for start in range(0, 16000, 1024):
                kind, values = ("fltp", np.float32) if codec == "aac" else ("s16", np.int16)
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), values), format=kind, layout="mono")
                frame.sample_rate, frame.pts = 16000, start
                file.mux(track.encode(frame))
            file.mux(track.encode())
        refused(target.getvalue(), "a file without one")


def test_too_small_frames() -> None:
    refused(write_video([np.zeros((6, 64, 3), np.uint8)] * 3, "matroska", "ffv1", "yuv444p"), "at least 8 pixels")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes_give_a_clip_or_an_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(FILES[sorted(FILES)[seed % len(FILES)]])
    for place in rng.integers(0, len(data), 1 + seed % 7):
        data[place] = int(rng.integers(256))
    with contextlib.suppress(BadSample):
        assert 1 <= len(read_video(bytes(data))) <= 256
