"""DICOM pixel data -> grey frames, for all photometric interpretations; a stored luma is used unchanged."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmalign.errors import BadSample
from modalities.common.reading.dicom_words import known_word, uid_name
from modalities.echo.formats.arrays import grey_of

Frame = NDArray[np.uint8]

JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""Baseline and extended: the usual compression of cines, decoded here; the others are decoded by pydicom."""

JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
COLOURS = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
"""Supported photometric interpretations."""

OTHER_COLOURS = ("ARGB", "CMYK", "HSV", "XYB", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
"""Others of the standard, which a message repeats."""


def grey_frames(file: Any, source: str) -> Iterator[Frame]:
    """Decode frame by frame, so that only one colour frame is in memory.

    Grey is the stored Y of YBR, `0.299 R + 0.587 G + 0.114 B` of RGB and of a palette's colours, and 255 less the
    value for MONOCHROME1. More than 8 bits are cut to the upper 8; windows are not applied.

    Args:
        file: pydicom data set, `PixelData` included.
        source: Origin of the file, for messages.

    Yields:
        `(rows, columns)` uint8.

    Raises:
        BadSample: the colours or the compression are not supported, or a frame is not of the stated size.
    """
    kind, bits, syntax = str(file.PhotometricInterpretation), int(file.BitsStored), file.file_meta.TransferSyntaxUID
    if kind not in COLOURS:
        raise BadSample(source, f"pixels as one of {', '.join(COLOURS)}", known_word(kind, OTHER_COLOURS))
    if file.get("PixelRepresentation") or not 8 <= bits <= 16:
        raise BadSample(source, "unsigned pixels of 8 to 16 bits", f"{bits} bits, or with a sign")
    table = _palette(file, bits) if kind == "PALETTE COLOR" else None
    if syntax in JPEG and bits == 8:
        for code in _coded(file):
            yield _jpeg(code, kind, table, file, source)
        return
    decoder, file = _decoder(syntax, source), _checked(file, source)
    # pydicom 3.0 takes the frames after the first for another layout when it iterates over uncompressed YBR_FULL_422.
    each = (decoder.as_array(file, index=index, raw=True) for index in range(int(file.NumberOfFrames)))
    for frame, meta in decoder.iter_array(file, raw=True) if syntax.is_encapsulated else each:
        if table is not None:
            yield table[frame]
        else:
            yield _grey(frame, str(meta["photometric_interpretation"]), bits)


def _grey(frame: NDArray[Any], kind: str, bits: int) -> Frame:
    upper = (frame if bits == 8 else frame >> (bits - 8)).astype(np.uint8, copy=False)
    if upper.ndim == 2:
        return 255 - upper if kind == "MONOCHROME1" else upper
    return grey_of(upper) if kind == "RGB" else upper[..., 0]


def _jpeg(code: bytes, kind: str, table: Frame | None, file: Any, source: str) -> Frame:
    """Decode by Pillow, which can decode the luma only."""
    picture: Any = Image.open(io.BytesIO(code), formats=("JPEG",))
    _check_frame(picture.size, file, source)
    if picture.mode == "L":
        index = np.asarray(picture)
        return table[index] if table is not None else _grey(index, kind, 8)
    if picture.mode != "RGB":
        raise BadSample(source, "frames of one or three colours", f"{picture.mode}")
    names = bytes(layer[0] for layer in picture.layer).upper()
    if kind == "RGB" and names != b"RGB" and not {"jfif", "adobe_transform"} & picture.info.keys():
        # The stream does not mark its components as RGB; libjpeg would assume YCbCr.
        picture.draft("YCbCr", picture.size)
        return grey_of(np.asarray(picture))
    picture.draft("L", picture.size)
    return np.asarray(picture)


def _palette(file: Any, bits: int) -> Frame:
    """Luma of each palette entry, `(2 ** bits,)`."""
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(np.arange(2**bits, dtype=np.uint8 if bits == 8 else np.uint16), file)
    if colours.max() > 255:  # some write 8 bits into 16
        colours = colours >> 8
    return grey_of(colours.astype(np.uint8))


def _decoder(syntax: Any, source: str) -> Any:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise BadSample(source, "a compression that pydicom decodes", uid_name(syntax)) from error
    if not decoder.is_available:
        raise BadSample(source, "a compression that the installed packages decode", uid_name(syntax))
    return decoder


def _checked(file: Any, source: str) -> Any:
    """The file, after checking that no frame needs more memory than the tags state."""
    syntax = file.file_meta.TransferSyntaxUID
    pixels = int(file.Rows) * int(file.Columns) * int(file.SamplesPerPixel) * int(file.BitsAllocated) // 8
    for code in _coded(file) if syntax.is_encapsulated else ():
        if syntax in JPEG_2000:
            _check_frame(Image.open(io.BytesIO(code), formats=("JPEG2000",)).size, file, source)
        if len(code) > 2 * pixels + 4096:
            raise BadSample(source, f"frames of {pixels} bytes", f"{len(code)} bytes of one")
    return file


def _coded(file: Any) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    return generate_frames(file.PixelData, number_of_frames=int(file.NumberOfFrames))


def _check_frame(size: tuple[int, int], file: Any, source: str) -> None:
    if size != (file.Columns, file.Rows):
        raise BadSample(source, f"frames of {file.Columns} x {file.Rows}, as it states", f"{size[0]} x {size[1]}")
