"""Video files: the right frames at the right times, whatever the container, clock, rotation and pixel format."""

import io
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.video.clock import regular
from modalities.video.formats import video_file
from modalities.video.read import read_video
from tests.modalities.video.video_files import Pipe, number_of, numbered, numbers_of, write_video

FILM = [numbered(index) for index in range(40)]


@pytest.mark.parametrize(
    ("form", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv420p10le"),
        ("mp4", "libx264", "yuvj420p"),
        ("mov", "prores", "yuv422p10le"),
        ("avi", "mpeg4", "yuv420p"),
        ("avi", "libx264", "yuv420p"),
        ("avi", "ffv1", "bgr0"),
        ("matroska", "libx264", "yuv444p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mpegts", "libx264", "yuv420p"),
        ("flv", "libx264", "yuv420p"),
    ],
)
def test_every_container_gives_every_frame(form: str, codec: str, pixels: str, tmp_path: Path) -> None:
    data = write_video(FILM, form, codec, pixels)
    clip = read_video(data)
    assert numbers_of(clip.frames) == list(range(40))
    assert clip.rate == pytest.approx(10)
    assert clip.frames.shape == (40, 48, 112, 3)
    assert np.abs(clip.frames.astype(float) - np.stack(FILM)).mean() < 6
    (tmp_path / "clip.dat").write_bytes(data)
    assert read_video(tmp_path / "clip.dat") == clip


@pytest.mark.parametrize("colorspace", [None, "bt709", "smpte170m"])
def test_colours_are_those_that_were_written(colorspace: str | None) -> None:
    import av

    colours = {"red": (220, 20, 20), "green": (20, 200, 30), "blue": (30, 20, 230), "grey": (120, 120, 120)}
    picture = np.repeat(np.array([*colours.values()], np.uint8)[None], 16, axis=0).repeat(16, axis=1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    if colorspace:
        kind = av.video.reformatter.Colorspace[{"bt709": "ITU709", "smpte170m": "SMPTE170M"}[colorspace]]
        frame = frame.reformat(format="yuv444p", dst_colorspace=kind)
    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as file:
        track = file.add_stream("ffv1", rate=5)
        track.height, track.width, track.pix_fmt = 16, 64, "yuv444p"
        if colorspace:
            track.codec_context.colorspace = {"bt709": 1, "smpte170m": 6}[colorspace]
        file.mux(track.encode(frame))
        file.mux(track.encode())
    clip = read_video(target.getvalue())
    for index, colour in enumerate(colours.values()):
        np.testing.assert_allclose(clip.frames[0, 8, 16 * index + 8], colour, atol=4)


CORNERS = np.zeros((48, 80, 3), np.uint8)
CORNERS[:24, :40], CORNERS[:24, 40:], CORNERS[24:, :40] = (220, 30, 30), (30, 200, 30), (30, 30, 220)


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_rotation_of_the_display_matrix_is_applied(degrees: int, form: str) -> None:
    clip = read_video(write_video([CORNERS] * 3, form, rotation=degrees))
    expected = np.rot90(CORNERS, degrees // 90)  # both are counterclockwise
    assert clip.frames.shape[1:] == expected.shape
    assert np.abs(clip.frames[1].astype(float) - expected).mean() < 5


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), np.rot90(CORNERS, -1)),  # a phone's portrait clip: turned clockwise to be upright
        ((-1, 0, 0, 1), CORNERS[:, ::-1]),
        ((1, 0, 0, -1), CORNERS[::-1]),
        ((0, 1, 1, 0), CORNERS.swapaxes(0, 1)),
    ],
)
def test_matrix_of_the_track_header(matrix: tuple[int, ...], expected: np.ndarray) -> None:
    """The bytes of ISO/IEC 14496-12, section 8.3.2, written into the file."""
    data = bytearray(write_video([CORNERS] * 3))
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    clip = read_video(bytes(data))
    assert clip.frames.shape[1:] == expected.shape
    assert np.abs(clip.frames[1].astype(float) - expected).mean() < 5


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_variable_rate_is_resampled_to_the_usual_one(form: str) -> None:
    """Frame 7 is shown for 1.1 s, frame 12 for half an interval."""
    steps = [100] * 20
    steps[7], steps[12] = 1100, 50
    times = [0, *np.cumsum(steps)[:-1].tolist()]
    clip = read_video(write_video(FILM[:20], form, times=times))
    assert clip.rate == pytest.approx(10, rel=0.03)
    shown = numbers_of(clip.frames)
    middles = (np.arange(len(shown)) + 0.5) / clip.rate * 1000
    assert shown == [int(np.searchsorted(times, middle, side="right")) - 1 for middle in middles]
    assert shown.count(7) in (10, 11, 12)


def test_frames_that_were_dropped_while_recording_repeat_the_one_before() -> None:
    data = write_video(FILM[:10], "avi", "mpeg4", times=[0, 100, 200, 300, 600, 700, 800, 900, 1000, 1100])
    shown = numbers_of(read_video(data).frames)
    assert sorted(set(shown)) == list(range(10))
    assert shown.count(3) > 1


def test_edit_list_cuts_the_beginning() -> None:
    data = bytearray(write_video(FILM, options={"bf": "2"}))
    entry = data.index(b"elst") + 4 + 8
    length, media_time = struct.unpack(">Ii", data[entry : entry + 8])
    clock = data.index(b"mdhd") + 4 + 12
    per_frame = struct.unpack(">I", data[clock : clock + 4])[0] // 10  # in ticks of the track
    struct.pack_into(">Ii", data, entry, length - 5 * (length // 40), media_time + 5 * per_frame)
    clip = read_video(bytes(data))
    assert numbers_of(clip.frames) == list(range(5, 40))
    assert clip.rate == pytest.approx(10)


@pytest.mark.parametrize("size", [(47, 113), (33, 57), (101, 15)])
def test_frames_of_odd_width_and_height(size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    picture[: size[0] // 2] = 240
    clip = read_video(write_video([picture] * 3, pixels="yuv444p"))
    assert clip.frames.shape == (3, *size, 3)
    np.testing.assert_allclose(clip.frames[1].astype(float), picture, atol=12)


def test_pixels_that_are_not_square_give_the_displayed_shape() -> None:
    import av

    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as file:
        track = file.add_stream("libx264", rate=5)
        track.height, track.width, track.pix_fmt = 48, 40, "yuv444p"
        track.codec_context.sample_aspect_ratio = Fraction(2, 1)
        file.mux(track.encode(av.VideoFrame.from_ndarray(np.zeros((48, 40, 3), np.uint8), format="rgb24")))
        file.mux(track.encode())
    assert read_video(target.getvalue()).frames.shape == (1, 48, 80, 3)


def test_one_frame() -> None:
    clip = read_video(write_video(FILM[5:6]))
    assert numbers_of(clip.frames) == [5]
    assert clip.rate == pytest.approx(10)


def test_large_frames_are_reduced_while_decoding() -> None:
    clip = read_video(write_video([numbered(index, 540, 1120) for index in range(4)], options={"preset": "ultrafast"}))
    assert clip.frames.shape == (4, 256, 531, 3)
    assert numbers_of(clip.frames) == [0, 1, 2, 3]


def test_300_frames_are_sampled_exactly() -> None:
    clip = read_video(write_video([numbered(index) for index in range(300)], options={"preset": "ultrafast"}))
    assert numbers_of(clip.frames) == [int((k + 0.5) * 300 / 256) for k in range(256)]
    assert clip.seconds == pytest.approx(30)


LONG = 7200


@pytest.fixture(scope="module")
def long_pictures() -> list[np.ndarray]:
    return [numbered(index, 32, 112) for index in range(LONG)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the frames that are decoded after seeking or in sequence."""
    count = [0]
    original = video_file._Reader._decoded

    def counting(self: Any, key: int | None = None) -> Any:
        for pair in original(self, key):
            count[0] += 1
            yield pair

    monkeypatch.setattr(video_file._Reader, "_decoded", counting)
    return count


FAST = {"preset": "ultrafast", "tune": "fastdecode"}


@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("mp4", "libx264", FAST | {"g": "10"}),
        ("matroska", "libx264", {"preset": "superfast", "g": "10", "bf": "2", "x264-params": "open-gop=1"}),
        ("avi", "mpeg4", {"g": "10"}),
    ],
)
def test_a_video_of_two_hours_is_not_decoded_whole(
    form: str, codec: str, options: dict[str, str], long_pictures: list[np.ndarray], decoded: list[int]
) -> None:
    """One frame a second for two hours: at most the group of pictures around each of 256 times is decoded."""
    clip = read_video(write_video(long_pictures, form, codec, rate=1, options=options))
    assert len(clip) == 256
    assert clip.seconds == pytest.approx(LONG, rel=1e-3)
    wanted = (np.arange(256) + 0.5) * LONG / 256
    assert np.abs(np.array(numbers_of(clip.frames)) - wanted).max() <= LONG / 256 / 2 + 1
    assert decoded[0] <= 2 * 256  # key frames alone


def test_long_video_of_few_key_frames_is_exact(long_pictures: list[np.ndarray], decoded: list[int]) -> None:
    clip = read_video(write_video(long_pictures[:2000], options=FAST | {"g": "500"}, rate=1))
    wanted = ((np.arange(256) + 0.5) * 2000 / 256).astype(int)
    shown = np.array(numbers_of(clip.frames))
    keys = np.arange(0, 2000, 500)
    exact = np.abs(wanted[:, None] - keys).min(axis=1) > 2000 / 256 / 2 + 1
    np.testing.assert_array_equal(shown[exact], wanted[exact])
    assert decoded[0] <= 2256


def test_video_without_an_index_is_read_in_sequence(long_pictures: list[np.ndarray]) -> None:
    """Written to a pipe, Matroska has neither cues nor a duration; an AVI loses its index with its end."""
    wanted = (np.arange(256) + 0.5) * 1200 / 256
    for data in (
        write_video(long_pictures[:1200], "matroska", options=FAST | {"g": "50"}, rate=1, stream=Pipe()),
        _without_index(write_video(long_pictures[:1200], "avi", "mpeg4", options={"g": "50"}, rate=1)),
    ):
        clip = read_video(data)
        assert np.abs(np.array(numbers_of(clip.frames)) - wanted).max() <= 1200 / 256 / 2 + 1


def _without_index(data: bytes) -> bytes:
    return data[: data.rindex(b"idx1")]


def test_decoding_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_file, "MAX_DECODED", 48 * 112 * 39)
    with pytest.raises(BadSample, match="pixels to decode"):
        read_video(write_video(FILM))
    monkeypatch.setattr(video_file, "MAX_PACKETS", 39)
    with pytest.raises(BadSample, match="at most 39 frames"):
        read_video(write_video(FILM))


def test_one_of_several_streams_is_read() -> None:
    """The one that FFmpeg takes by default."""
    import av

    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as file:
        tracks = [file.add_stream("libx264", rate=10) for _ in range(2)]
        for track, (height, width) in zip(tracks, ((32, 64), (48, 112)), strict=True):
            track.height, track.width, track.pix_fmt = height, width, "yuv420p"
        for index in range(5):
            for track, offset in zip(tracks, (0, 100), strict=True):
                picture = numbered(index + offset, track.height, track.width)
                file.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for track in tracks:
            file.mux(track.encode())
    clip = read_video(target.getvalue())
    assert numbers_of(clip.frames) in ([100, 101, 102, 103, 104], [0, 1, 2, 3, 4])


def test_clock_of_irregular_frames() -> None:
    starts = np.array([0.0, 1.0, 2.0, 10.0, 11.0])
    indices, rate = regular(starts, 12.0)
    assert rate == pytest.approx(1.0)
    assert indices.tolist() == [0, 1, *[2] * 8, 3, 4]
    indices, rate = regular(np.array([0.0, 1e-3, 2e-3, 1e6]), 1e6 + 1e-3)  # a gap of days needs no memory
    assert len(indices) == 256
    assert number_of(FILM[3]) == 3


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """A process that reads 2,000 frames needs little more memory than one that reads 300."""
    program = (
        "import resource, sys\n"
        "from modalities.video.read import read_video\n"
        "read_video(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for count in (300, 2000):
        path = tmp_path / f"{count}.mp4"
        path.write_bytes(write_video([numbered(0, 128, 224)] * count, options=FAST | {"g": "10"}))
        command = [sys.executable, "-c", program, str(path)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] - peaks[0] < 60_000  # kilobytes; all frames would be 146 MB more
