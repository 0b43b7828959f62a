"""Grey TIFF and PNG of more than eight bits, written byte by byte from the formats' specifications."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmalign.errors import BadSample
from modalities.image.read import read_image

GREY = np.linspace(0, 65535, 960).astype(np.uint16).reshape(24, 40)
EIGHT = np.rint(GREY / 257).astype(np.uint8)


def tiff(values: np.ndarray, photometric: int, order: str, compression: int = 1, bits: int = 0) -> bytes:
    """A grey TIFF of one strip (TIFF 6.0, section 2): compression 1 = none, 8 = deflate."""
    height, width = GREY.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes() if not bits else values.tobytes()
    data = zlib.compress(data) if compression == 8 else data
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = [
        (256, width),
        (257, height),
        (258, bits or values.dtype.itemsize * 8),
        (259, compression),
        (262, photometric),
    ]
    tags += [(273, 8), (277, 1), (278, height), (279, len(data)), (339, kind)]
    data += bytes(len(data) % 2)
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + table + bytes(4)


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i4", "f4"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_tiffs_of_every_kind_have_the_same_levels(photometric: int, order: str, compression: int, kind: str) -> None:
    """Photometric 0: white is zero (TIFF 6.0, page 37)."""
    scaled = {"u1": EIGHT, "f4": GREY / 65535}.get(kind, GREY).astype(kind)
    levels = EIGHT if photometric else 255 - EIGHT
    pixels = read_image(tiff(scaled, photometric, order, compression))
    assert np.abs(pixels[..., 0].astype(int) - levels).max() <= (kind == "f4")
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
def test_small_signed_integers_keep_their_byte_order(order: str, compression: int) -> None:
    """With its bytes exchanged, 100 is 25600, which is a plausible grey level too."""
    pixels = read_image(tiff(np.full(GREY.shape, 25_700, np.int16), 1, order, compression))
    assert set(pixels.ravel().tolist()) == {100}


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_twelve_bit_grey_is_scaled_to_255(photometric: int, order: str) -> None:
    twelve = (GREY >> 4).astype(np.uint8 if False else np.uint16).reshape(-1, 2).astype(np.uint32)
    packed = (twelve[:, 0] << 12 | twelve[:, 1])[:, None] >> np.array([16, 8, 0]) & 255
    pixels = read_image(tiff(packed.astype(np.uint8), photometric, order, bits=12))[..., 0]
    levels = np.rint((GREY >> 4) / 4095 * 255)
    np.testing.assert_allclose(pixels, levels if photometric else 255 - levels, atol=1)


def test_unsigned_values_beyond_sixteen_bits_are_named() -> None:
    with pytest.raises(BadSample, match=r"0\.\.4294967295"):
        read_image(tiff(GREY.astype(np.uint32) * 65537, 1, "<"))
    with pytest.raises(BadSample, match="a TIFF of a kind that Pillow does not read"):
        read_image(tiff(GREY / 65535, 1, "<"))


@pytest.mark.parametrize("photometric", [0, 1])
def test_an_opened_picture_is_read_as_its_file(photometric: int) -> None:
    data = tiff(GREY, photometric, ">", 8)
    read_image(data)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(read_image(picture), read_image(data))


@pytest.mark.parametrize("kind", ["u2", "f4", "f8", "f2"])
def test_arrays_of_both_byte_orders(kind: str) -> None:
    values = (GREY if kind == "u2" else GREY / 65535).astype(kind)
    other = values.astype(values.dtype.newbyteorder(">"))
    np.testing.assert_array_equal(read_image(other), read_image(values))
    assert read_image(other)[-1, -1, 0] == 255


def test_a_big_endian_picture_of_pillow() -> None:
    picture = Image.frombytes("I;16B", (40, 24), GREY.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(picture)[..., 0], EIGHT)


def png(depth: int, colour: int, row: bytes, transparent: bytes, width: int = 4) -> bytes:
    """A PNG of one row with a transparent value (PNG specification, 11.3.2.1)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    body = chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "levels"),
    [
        (1, bytes([0b01010000]), 0, [255, 255, 255, 255]),
        (2, bytes([0b00011011]), 1, [0, 255, 170, 255]),
        (4, bytes([0x0F, 0x37]), 3, [0, 255, 255, 119]),
        (8, bytes([0, 9, 200, 255]), 9, [0, 255, 200, 255]),
        (16, struct.pack(">4H", 0, 257, 514, 65535), 257, [0, 255, 2, 255]),
    ],
)
def test_the_transparent_grey_of_a_png_is_white(depth: int, row: bytes, transparent: int, levels: list[int]) -> None:
    assert read_image(png(depth, 0, row, struct.pack(">H", transparent)))[0, :, 1].tolist() == levels


def test_the_transparent_colour_of_a_deep_png_is_white() -> None:
    colours = [(0x1234, 0x2345, 0x3456), (0, 0, 0), (65535, 0, 0), (0x1234, 0, 0)]
    row = b"".join(struct.pack(">3H", *colour) for colour in colours)
    pixels = read_image(png(16, 2, row, struct.pack(">3H", *colours[0])))
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0x12, 0, 0]]


def test_bands_are_composited_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 11, 4), np.uint8)
    whole = read_image(Image.fromarray(pixels))
    monkeypatch.setattr("modalities.image.read._BAND", 25)
    np.testing.assert_array_equal(read_image(Image.fromarray(pixels)), whole)
    alpha = pixels[..., 3:] / 255
    np.testing.assert_allclose(whole, pixels[..., :3] * alpha + 255 * (1 - alpha), atol=1)
    palette = Image.fromarray(pixels[..., 0]).convert("P")
    palette.info["transparency"] = 7
    assert (read_image(palette) == 255).all(2).sum() >= (np.asarray(palette) == 7).sum() > 0


def test_exif_orientation_is_applied() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    for orientation, turned in ((1, pixels), (3, pixels[::-1, ::-1]), (6, pixels.swapaxes(0, 1)[:, ::-1])):
        stream, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(stream, "PNG", exif=exif)
        np.testing.assert_array_equal(read_image(stream.getvalue()), turned)
