"""Every format and every way of writing colours gives the grey levels that were written."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from echo_files import (
    FRAMES,
    HEIGHT,
    JPEG,
    JPEG_2000,
    NATIVE,
    RATE,
    RLE,
    WIDTH,
    colours,
    jpeg,
    jpeg_2000,
    luma,
    region,
    write_dicom,
    write_video,
    ybr,
)

from mmalign.errors import BadSample
from modalities.echo.formats.resampling import even
from modalities.echo.read import read_echo
from modalities.echo.sample import Echo

RGB = colours()
GREY = np.rint(luma(RGB)).astype(np.uint8)


def agree(echo: Echo, expected: np.ndarray, within: float) -> None:
    assert echo.frames.dtype == np.uint8
    assert echo.frames.shape == expected.shape
    assert np.abs(echo.frames.astype(float) - expected).max() <= within
    assert echo.rate == pytest.approx(RATE)
    assert echo.faults == ()


@pytest.mark.parametrize(
    ("codec", "pixels", "form", "within"),
    [
        ("mjpeg", "yuvj444p", "avi", 4),
        ("mjpeg", "yuvj420p", "avi", 4),
        ("rawvideo", "bgr24", "avi", 1),
        ("ffv1", "gray", "avi", 1),
        ("mpeg4", "yuv420p", "avi", 6),
        ("mpeg4", "yuv420p", "mp4", 6),
        ("libx264", "yuv420p", "mp4", 10),
    ],
)
def test_video_files_equal_the_original_frames(
    codec: str, pixels: str, form: str, within: float, tmp_path: Path
) -> None:
    """Limited range (yuv420p of MPEG) comes out as full range, red is not blue, frames come in the order shown."""
    file = tmp_path / f"clip.{form}"
    file.write_bytes(write_video(RGB, codec, pixels, form))
    agree(read_echo(file), luma(RGB), within)
    assert read_echo(str(file)) == read_echo(file.read_bytes())


def test_frames_at_irregular_times_are_brought_to_regular_ones() -> None:
    times = [0, 40, 80, 120, 240, 280, 320, 360, 400, 440, 480, 520]
    echo = read_echo(write_video(RGB, "libx264", "yuv420p", "mp4", times))
    places = [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    agree(echo, luma(RGB)[places], 10)


@pytest.mark.parametrize(
    ("times", "places", "rate"),
    [
        ([0, 0.1, 0.2, 0.3], [0, 1, 2, 3], 10),
        ([0, 0.105, 0.2, 0.3], [0, 1, 2, 3], 10),
        ([5, 5.1, 5.2, 5.4, 5.5], [0, 1, 2, 2, 3, 4], 10),
        ([0, 0.1, 0.2, 0.21, 0.3, 0.4], [0, 1, 3, 4, 5], 10),
    ],
)
def test_regular_times_are_found_for_irregular_frames(times: list[float], places: list[int], rate: float) -> None:
    found, clock = even(times, "clip")
    assert found.tolist() == places
    assert clock == pytest.approx(rate)


@pytest.mark.parametrize("times", [[0, 0], [0, 1, 0.5], [0, float("nan")], [0.0], [0, 1e-3, 2e-3, 1e9]])
def test_invalid_times_are_rejected(times: list[float]) -> None:
    with pytest.raises(BadSample, match="clip"):
        even(times, "clip")


def rgb_422() -> np.ndarray:
    """As stored: two Y, then the Cb and Cr that they share."""
    values = ybr(RGB)
    return np.stack([values[..., ::2, 0], values[..., 1::2, 0], values[..., ::2, 1], values[..., ::2, 2]], -1)


def palette(file: object, bits: int = 16) -> None:
    """Index 0..255 to the colours that `RGB` would have in a table of its first pixels."""
    for name, column in zip(("Red", "Green", "Blue"), TABLE.T, strict=True):
        setattr(file, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(file, f"{name}PaletteColorLookupTableData", (column.astype("<u2") * 257).tobytes())


TABLE = np.random.default_rng(0).integers(0, 256, (256, 3))
INDEX = GREY

NATIVE_KINDS: dict[str, tuple[Callable[[Path], Path], np.ndarray, float]] = {
    "MONOCHROME2": (lambda path: write_dicom(path, GREY), GREY, 0),
    "MONOCHROME1": (lambda path: write_dicom(path, 255 - GREY, "MONOCHROME1"), GREY, 0),
    "MONOCHROME2-12": (lambda path: write_dicom(path, GREY.astype(int) * 16 + 15, bits=12), GREY, 0),
    "MONOCHROME1-16": (lambda path: write_dicom(path, 65535 - GREY.astype(int) * 256, "MONOCHROME1", bits=16), GREY, 0),
    "RGB": (lambda path: write_dicom(path, RGB, "RGB"), luma(RGB), 0.51),
    "RGB-planar": (lambda path: write_dicom(path, RGB.transpose(0, 3, 1, 2), "RGB", planar=1), luma(RGB), 0.51),
    "YBR_FULL": (lambda path: write_dicom(path, ybr(RGB), "YBR_FULL"), luma(RGB), 0.51),
    "YBR_FULL_422": (lambda path: write_dicom(path, rgb_422(), "YBR_FULL_422"), luma(RGB), 0.51),
    "PALETTE COLOR": (lambda path: write_dicom(path, INDEX, "PALETTE COLOR", edit=palette), luma(TABLE[INDEX]), 0.51),
}  # fmt: skip


@pytest.mark.parametrize("kind", NATIVE_KINDS)
def test_dicom_without_compression(kind: str, tmp_path: Path) -> None:
    write, expected, within = NATIVE_KINDS[kind]
    agree(read_echo(write(tmp_path / "clip.dcm")), expected, within)


def test_a_palette_of_eight_bits_in_sixteen(tmp_path: Path) -> None:
    def small(file: object) -> None:
        palette(file)
        for name, column in zip(("Red", "Green", "Blue"), TABLE.T, strict=True):
            setattr(file, f"{name}PaletteColorLookupTableData", column.astype("<u2").tobytes())

    agree(read_echo(write_dicom(tmp_path / "a.dcm", INDEX, "PALETTE COLOR", edit=small)), luma(TABLE[INDEX]), 0.51)


def rle(path: Path) -> Path:
    import pydicom

    file = pydicom.dcmread(write_dicom(path, RGB, "RGB"))
    file.compress(RLE)
    file.save_as(path)
    return path


def coded(make: Callable[[np.ndarray], bytes], colour: str, syntax: str = JPEG) -> Callable[[Path], Path]:
    return lambda path: write_dicom(path, [make(picture) for picture in RGB], colour, syntax=syntax)


CODED: dict[str, Callable[[Path], Path]] = {
    "YBR_FULL_422": coded(lambda p: jpeg(p, subsampling=1), "YBR_FULL_422"),
    "YBR_FULL": coded(jpeg, "YBR_FULL"),
    "YBR_FULL without a marker": coded(lambda p: jpeg(p, plain=True), "YBR_FULL"),
    "YBR_FULL by Adobe": coded(lambda p: jpeg(p, adobe=1), "YBR_FULL_422"),
    "RGB by Adobe": coded(lambda p: jpeg(p, mode="YCbCr", adobe=0), "RGB"),
    "RGB by names and Adobe": coded(lambda p: jpeg(p, keep_rgb=True), "RGB"),
    "RGB by names": coded(lambda p: jpeg(p, keep_rgb=True, plain=True), "RGB"),
    "RGB without a marker": coded(lambda p: jpeg(p, mode="YCbCr", plain=True), "RGB"),
    "RGB that is YBR by its marker": coded(jpeg, "RGB"),
    "MONOCHROME2": lambda path: write_dicom(path, [jpeg(g, subsampling=-1) for g in GREY], syntax=JPEG),
    "MONOCHROME1": lambda path: write_dicom(
        path, [jpeg(255 - g, subsampling=-1) for g in GREY], "MONOCHROME1", syntax=JPEG
    ),
    "YBR_RCT": coded(jpeg_2000, "YBR_RCT", JPEG_2000),
    "RLE": rle,
}


@pytest.mark.parametrize("kind", CODED)
def test_compressed_dicom(kind: str, tmp_path: Path) -> None:
    agree(read_echo(CODED[kind](tmp_path / "clip.dcm")), luma(RGB), 3)


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_grey_is_that_of_pydicoms_own_conversion(kind: str, tmp_path: Path) -> None:
    from pydicom.pixels import pixel_array

    for write in (NATIVE_KINDS[kind][0], CODED.get(kind)):
        if write is not None:
            path = write(tmp_path / "clip.dcm")
            assert np.abs(read_echo(path).frames - luma(pixel_array(path))).max() <= 1.5


def test_the_tissue_region_is_cropped(tmp_path: Path) -> None:
    def edit(file: object) -> None:
        file.SequenceOfUltrasoundRegions = [
            region(0, 0, 63, 11, form=2),  # M-mode
            region(2, 12, 12, 20, kind=2),  # colour flow
            region(10, 12, 29, 31),
            region(8, 5, 47, 44),
        ]

    echo = read_echo(write_dicom(tmp_path / "a.dcm", RGB, "RGB", edit=edit))
    assert echo.frames.shape == (FRAMES, 40, 40)
    assert np.abs(echo.frames - luma(RGB)[:, 5:45, 8:48]).max() <= 0.51
    assert echo.faults == ("2 regions of one kind: the largest was taken",)


def test_a_region_that_ends_one_pixel_late_is_used(tmp_path: Path) -> None:
    echo = read_echo(
        write_dicom(
            tmp_path / "a.dcm", GREY, edit=lambda f: setattr(f, "SequenceOfUltrasoundRegions", [region(4, 0, 64, 48)])
        )
    )
    assert echo.frames.shape == (FRAMES, HEIGHT, WIDTH - 4)
    assert echo.faults == ()


@pytest.mark.parametrize("box", [(0, 0, 639, 479), (-1, 0, 40, 40), (5, 5, 8, 40), (40, 40, 10, 10)])
def test_a_region_outside_the_frame_is_ignored(box: tuple[int, ...], tmp_path: Path) -> None:
    box = tuple(value % 2**32 for value in box)
    path = write_dicom(
        tmp_path / "a.dcm", GREY, edit=lambda file: setattr(file, "SequenceOfUltrasoundRegions", [region(*box)])
    )
    echo = read_echo(path)
    assert echo.frames.shape == GREY.shape
    assert "not cropped" in echo.faults[0]
    with pytest.raises(BadSample, match="a.dcm: expected a clip without faults"):
        read_echo(path, strict=True)


@pytest.mark.parametrize(
    ("tags", "rate", "faults"),
    [
        ({"FrameTime": 20}, 50, 0),
        ({"FrameTime": None, "CineRate": 33}, 33, 0),
        ({"FrameTime": None, "RecommendedDisplayFrameRate": 60}, 60, 0),
        ({"FrameTime": 20, "CineRate": 50, "RecommendedDisplayFrameRate": 10}, 50, 0),
        ({"FrameTime": 20, "CineRate": 30}, 50, 1),
        ({"FrameTime": 20, "FrameTimeVector": [0] + [50] * (FRAMES - 1)}, 20, 0),
        ({"FrameTime": 20, "FrameTimeVector": [0] + [50] * 3}, 50, 0),
    ],
)
def test_frame_rate(tags: dict[str, object], rate: float, faults: int, tmp_path: Path) -> None:
    def edit(file: object) -> None:
        for name, value in tags.items():
            setattr(file, name, value)

    echo = read_echo(write_dicom(tmp_path / "a.dcm", GREY, edit=edit))
    assert echo.rate == pytest.approx(rate)
    assert len(echo.faults) == faults


def test_a_frame_time_vector_with_a_gap(tmp_path: Path) -> None:
    steps = [0, 40, 40, 120] + [40] * (FRAMES - 4)
    echo = read_echo(write_dicom(tmp_path / "a.dcm", GREY, edit=lambda file: setattr(file, "FrameTimeVector", steps)))
    agree(echo, GREY[[0, 1, 2, 2, 2, *range(3, FRAMES)]], 0)


def test_arrays_and_npz_files_are_read(tmp_path: Path) -> None:
    agree(read_echo({"frames": GREY, "rate": RATE}), GREY, 0)
    agree(read_echo({"frames": RGB, "rate": np.float32(RATE)}), luma(RGB), 0.51)
    np.savez_compressed(tmp_path / "a.npz", frames=GREY, rate=RATE)
    agree(read_echo(tmp_path / "a.npz"), GREY, 0)
    stream = io.BytesIO()
    np.savez(stream, frames=RGB, rate=[RATE])
    agree(read_echo(stream.getvalue()), luma(RGB), 0.51)
    np.save(tmp_path / "b.npy", GREY)
    (tmp_path / "b.json").write_text(json.dumps({"rate": RATE}))
    agree(read_echo(tmp_path / "b.npy"), GREY, 0)


def test_reading_a_clip_returns_it(heart: Echo) -> None:
    assert read_echo(heart) is heart


def test_the_real_echo_cine(real_data: Path) -> None:
    """Its frames were made smaller and its region was not: nothing is cropped, and that is said."""
    import pydicom
    from pydicom.pixels import pixel_array

    path = real_data / "echo_dicom" / "examples_ybr_color.dcm"
    if not path.is_file():
        pytest.skip(f"no echo at {path}")
    echo = read_echo(path)
    assert echo.frames.shape == (30, 240, 320)
    assert echo.rate == pytest.approx(30, abs=0.01)
    assert "not cropped" in echo.faults[0]
    np.testing.assert_array_equal(echo.frames, pixel_array(path, raw=True)[..., 0])  # Y as it is stored
    off = np.abs(echo.frames - luma(pixel_array(path)))
    assert off.mean() < 0.1  # bright colours leave what RGB can hold, and are cut there
    assert np.quantile(off, 0.99) <= 1.5
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEG != NATIVE
