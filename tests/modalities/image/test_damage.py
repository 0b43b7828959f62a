"""Damaged pictures: checksums are compared, and nothing is printed."""

import io
import os
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmalign.errors import BadSample
from modalities.common.reading.dicom_log import quiet_dicom
from modalities.common.reading.picture_log import quiet_pictures
from modalities.image.read import read_image

SMOOTH = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint8)[..., None].repeat(3, 2)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_png_with_a_flipped_bit_is_rejected() -> None:
    """Also where the pixels still decode: a palette, a transparent value, the end of the packed data."""
    palette = Image.fromarray(SMOOTH).convert("P", palette=Image.Palette.ADAPTIVE)
    for picture in (Image.fromarray(SMOOTH), palette):
        data = encoded(picture, "PNG", pnginfo=None)
        for place in range(0, len(data), 3):
            damaged = bytearray(data)
            damaged[place] ^= 1 << (place % 8)
            with pytest.raises(BadSample):
                read_image(bytes(damaged))


def test_png_with_a_wrong_checksum_is_rejected(tmp_path: Path) -> None:
    """Damage of a picture whose checksum of the packed data is never reached by the decoder."""
    data = encoded(Image.fromarray(SMOOTH), "PNG")
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    rows = bytearray(zlib.decompress(data[start + 4 : start + 4 + length]))
    rows[200] ^= 64
    packed = zlib.compress(bytes(rows)) + bytes(20)  # a valid stream of other pixels, and the old CRC
    forged = data[: start - 4] + struct.pack(">I", len(packed)) + b"IDAT" + packed + data[start + 4 + length :]
    (tmp_path / "forged.png").write_bytes(forged)
    for source in (forged, tmp_path / "forged.png"):
        with pytest.raises(BadSample, match="whose checksums agree"):
            read_image(source)
    with pytest.raises(BadSample, match="a truncated one"):
        read_image(data[:-12])


@pytest.mark.filterwarnings("default")
def test_nothing_is_printed_about_damaged_pictures(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    rng = np.random.default_rng(0)
    sound = Image.fromarray(SMOOTH)
    files = [encoded(sound, "TIFF", compression=kind) for kind in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")]
    files += [encoded(sound.convert("1"), "TIFF", compression="group4"), encoded(sound, "JPEG"), encoded(sound, "WEBP")]
    refused = 0
    for data in files:
        for _ in range(25):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 4):
                damaged[place] = rng.integers(256)
            message = ""
            try:
                read_image(bytes(damaged))
            except BadSample as error:
                message = str(error)
            refused += bool(message)
            assert "\n" not in message
    sys.stderr.flush()
    out, err = capfd.readouterr()
    assert refused > 40
    assert out + err == ""
    assert not list(recwarn)


def test_filters_are_restored_after_overlapping_silences() -> None:
    """One thread leaves the silence of pydicom while another is inside that of Pillow."""
    before = list(warnings.filters)
    entered, left = threading.Event(), threading.Event()

    def reader() -> None:
        with quiet_pictures:
            entered.set()
            left.wait(5)

    with quiet_dicom:
        thread = threading.Thread(target=reader)
        thread.start()
        entered.wait(5)
    left.set()
    thread.join()
    assert warnings.filters == before


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadSample, match="a device or pipe"):
        read_image(tmp_path / "pipe.png")
