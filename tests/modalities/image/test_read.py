"""Pictures as strangers send them."""

import contextlib
import io
import os
import struct
import tarfile
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmalign.errors import BadSample
from modalities.image.read import MAX_PIXELS, read_image


def scene(height: int = 20, width: int = 30) -> np.ndarray:
    """Smooth in both directions, so that lossy formats stay near."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 4], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
    ],
)
def test_formats_from_path_and_bytes(tmp_path: Path, kind: str, options: dict[str, Any], tolerance: int) -> None:
    data = encode(Image.fromarray(scene()), kind, **options)
    path = tmp_path / "no_ending"  # the name says nothing
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        pixels = read_image(source)
        assert (pixels.shape, pixels.dtype) == ((20, 30, 3), np.uint8)
        assert np.abs(pixels.astype(int) - scene().astype(int)).max() <= tolerance


def test_alpha_is_composited_over_white() -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[:] = [[10, 20, 30, 255], [200, 0, 0, 0], [0, 100, 200, 51]]  # opaque, invisible red, one fifth
    expected = [[10, 20, 30], [255, 255, 255], [204, 224, 244]]
    for source in (rgba, Image.fromarray(rgba), encode(Image.fromarray(rgba), "PNG"), torch.from_numpy(rgba)):
        np.testing.assert_allclose(read_image(source)[0], expected, atol=1)


def test_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    np.testing.assert_array_equal(read_image(encode(image, "PNG"))[0], [[255, 0, 0], [0, 255, 0], [0, 0, 255]])
    clear = encode(image, "PNG", transparency=1)
    np.testing.assert_array_equal(read_image(clear)[0], [[255, 0, 0], [255, 255, 255], [0, 0, 255]])


def test_grey_levels_of_every_depth() -> None:
    for values, expected in (
        (np.array([[0, 128, 255]], dtype=np.uint8), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], dtype=np.uint16), [0, 128, 255]),
        (np.array([[False, True, True]]), [0, 255, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
    ):
        np.testing.assert_array_equal(read_image(values)[0, :, 0], expected)
        if values.dtype != np.float32:
            np.testing.assert_array_equal(read_image(encode(Image.fromarray(values), "PNG"))[0, :, 2], expected)


def test_sixteen_bits_in_tiff_and_in_thirty_two() -> None:
    for values in (np.array([[0, 257, 65535]], dtype=np.uint16), np.array([[0, 257, 65535]], dtype=np.int32)):
        np.testing.assert_array_equal(read_image(encode(Image.fromarray(values), "TIFF"))[0, :, 0], [0, 1, 255])
    with pytest.raises(BadSample, match="grey levels in 0..65535"):
        read_image(encode(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "TIFF"))


def test_cmyk_is_converted_to_rgb() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    for kind, options in (("TIFF", {}), ("JPEG", {"quality": 95})):
        pixels = read_image(encode(image, kind, **options)).astype(int)
        assert np.abs(pixels - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    """The eight values of EXIF tag 274, by the standard's own words: where the first row and column lie."""
    upright = scene(4, 6)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif.tobytes())
    np.testing.assert_array_equal(read_image(data), upright)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_image(data)[0, 0], [255, 0, 0])


def test_layouts_of_arrays_and_tensors() -> None:
    pixels = scene(5, 7)
    for source in (pixels, pixels[::-1][::-1], torch.from_numpy(pixels), torch.from_numpy(pixels).permute(2, 0, 1)):
        np.testing.assert_array_equal(read_image(source), pixels)
    np.testing.assert_array_equal(read_image(torch.from_numpy(pixels).permute(2, 0, 1) / 255), pixels)
    for grey in (
        pixels[..., 0],
        pixels[..., :1],
        torch.from_numpy(pixels[..., 0]),
        torch.from_numpy(pixels[None, ..., 0]),
    ):
        np.testing.assert_array_equal(read_image(grey), np.repeat(pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((2, 2, 2), dtype=np.uint8),
        np.zeros((2, 2, 3, 1), dtype=np.uint8),
        np.zeros((0, 4), dtype=np.uint8),
        np.zeros((4, 4), dtype=np.int64),
        np.full((2, 2), np.nan),
        np.full((2, 2), 1.5),
        np.full((2, 2), -0.1),
        np.array([["a"]]),
    ],
    ids=["channels", "dimensions", "empty", "int64", "nan", "above", "below", "text"],
)
def test_arrays_that_are_no_pictures(source: np.ndarray) -> None:
    with pytest.raises(BadSample, match="^array: expected"):
        read_image(source)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8193, 9500, 50_000])
def test_a_giant_header_is_refused_undecoded(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )
    with pytest.raises(BadSample, match=f"at most {MAX_PIXELS} pixels"):
        read_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated_and_corrupted_files_are_rejected_or_read(kind: str) -> None:
    """Cut anywhere, a file is refused, never half decoded; with bytes changed, it is refused or read: nothing else."""
    noisy = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noisy), kind)
    for part in (0.1, 0.3, 0.6, 0.9):
        with pytest.raises(BadSample, match="damaged|begins with|empty|truncated"):
            read_image(data[: int(len(data) * part)])
    rng = np.random.default_rng(1)
    for _ in range(100):
        changed = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), 4):
            changed[place] = rng.integers(256)
        with contextlib.suppress(BadSample):
            assert read_image(bytes(changed)).ndim == 3


def test_text_file_named_png_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("these are notes")
    with pytest.raises(BadSample, match=r"notes\.png: expected a PNG, JPEG, WebP or TIFF picture, got a text file"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(BadSample, match="empty file"):
        read_image(path)
    path.write_bytes(encode(Image.new("RGB", (4, 4)), "BMP"))  # a picture, but not one of the four
    with pytest.raises(BadSample, match="got a BMP picture"):
        read_image(path)


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(BadSample, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(BadSample, match="a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    outcome: list[Exception] = []

    def attempt() -> None:
        try:
            read_image(tmp_path / "pipe.png")
        except BadSample as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert outcome, "reading a pipe hangs"


@pytest.mark.real
def test_real_emoji_and_photographs(real_data: Path) -> None:
    """Clear corners of an emoji are white, whatever colour hides there; photographs come out whole."""
    with tarfile.open(real_data / "noto_emoji" / "png72.tar") as archive:
        for member in archive.getmembers()[:40]:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".png"):
                continue
            data = file.read()
            alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]
            pixels = read_image(data)
            assert pixels.shape == (*alpha.shape, 3)
            assert (pixels[alpha == 0] == 255).all()
    with tarfile.open(real_data / "coco_captions" / "images_free.tar") as archive:
        members = [member for member in archive.getmembers() if member.isfile()][:5]
        for member in members:
            data = archive.extractfile(member).read()  # type: ignore[union-attr]
            np.testing.assert_array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
            with pytest.raises(BadSample, match="damaged"):
                read_image(data[: len(data) // 2])
