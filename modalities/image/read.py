"""Read an image from any supported source as `(height, width, 3)` uint8. Files are recognised by content."""

import io
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mmalign.errors import BadSample
from modalities.common.reading.any_source import beginning
from modalities.common.reading.local_file import demand_file
from modalities.common.reading.picture_log import quiet_pictures
from modalities.common.reading.png import check_png
from modalities.image.augment import Pixels
from modalities.image.deep_grey import Deep, deep_values, know_deep_tiffs

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF")
"""What is decoded."""

MAX_PIXELS = 2**26
"""Maximum number of pixels, checked in the header before decoding: 8192 x 8192, 201 MB in memory."""

WANTED = "a PNG, JPEG, WebP or TIFF picture"

_ORIENTATION = 0x0112  # EXIF tag
_TIFF = (b"II*\0", b"MM\0*")
_BAND = 1 << 20  # pixels that are composited at once
_GREY_STEPS = {"1": 255, "L;2": 85, "L;4": 17}
"""Pillow's raw mode of a grey PNG of fewer than eight bits -> 8-bit levels per stored level."""


@np.errstate(all="ignore")  # NaN, infinities and values beyond a type are refused by the checks at the end
def read_image(source: Any) -> Pixels:
    """Decode a path, bytes, a PIL image, an array or a tensor.

    Transparency is composited over white, the EXIF orientation is applied, 16 bits become 8, and of several frames the
    first is used.

    Args:
        source: A path, encoded bytes, a PIL image, an array `(height, width)`, `(height, width, 1 | 3 | 4)`, or a
            tensor of one of these shapes or with the channels first. Numbers are uint8, uint16, bool, or floats
            in 0..1.

    Returns:
        Red, green, blue, `(height, width, 3)` uint8.

    Raises:
        BadSample: it is no image, is damaged, or has more than `MAX_PIXELS` pixels.

    Example:
        >>> import numpy as np
        >>> from modalities.image.read import read_image
        >>> read_image(np.ones((2, 5))).shape
        (2, 5, 3)
    """
    if isinstance(source, str | PathLike):
        path = Path(source)
        demand_file(path, WANTED)
        with path.open("rb") as stream:
            return _decode(stream, path)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), f"{len(source)} bytes")
    if isinstance(source, Image.Image):
        return _check(_flatten(source, "PIL image"), "PIL image")
    if hasattr(source, "detach"):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, "array")
    raise BadSample("image", "a path, bytes, a PIL image, an array or a tensor", f"a {type(source).__name__}")


def _decode(stream: BinaryIO, source: object) -> Pixels:
    know_deep_tiffs()
    try:
        check_png(stream, source)
        with quiet_pictures, Image.open(stream, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadSample(source, f"at most {MAX_PIXELS} pixels", f"{width} x {height} in the header")
            pixels = _flatten(image, source)
    except BadSample:
        raise
    except UnidentifiedImageError as error:
        raise BadSample(source, WANTED, _glimpse(stream)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadSample(source, f"at most {MAX_PIXELS} pixels", f"far more in the header ({error})") from error
    except Exception as error:  # decoders of damaged bytes raise anything
        reason = " ".join(str(error).split())[:120]
        raise BadSample(source, WANTED, f"a damaged one ({type(error).__name__}: {reason})") from error
    return _check(pixels, source)


def _flatten(image: Image.Image, source: object) -> Pixels:
    """Convert to upright, opaque, 8-bit RGB."""
    deep, transparent = Deep.of(image), _transparent(image)
    image.load()
    upright = image
    try:
        if image.getexif().get(_ORIENTATION, 1) != 1:  # Pillow would copy an upright picture
            upright = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data does not make the image unreadable
        upright = image
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_array(deep_values(np.asarray(upright), deep, transparent, source), source)
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        return _over_white(upright, transparent)
    return np.asarray(upright.convert("RGB"))


def _transparent(image: Image.Image) -> Any:
    """The transparent value in units of the decoded pixels; a PNG states it in units of its own depth."""
    value = image.info.get("transparency")
    raw = next((tile.args for tile in getattr(image, "tile", ()) if isinstance(tile.args, str)), "")
    if image.format != "PNG" or value is None:
        return value
    if raw == "RGB;16B" and isinstance(value, tuple):
        return tuple(level >> 8 for level in value)
    return value * _GREY_STEPS[raw] if raw in _GREY_STEPS and isinstance(value, int) else value


def _over_white(image: Image.Image, transparent: Any) -> Pixels:
    """Composite in bands of rows: whole copies of a large picture would need several times its memory."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // max(width, 1))
    for top in range(0, height, step):
        band = image.crop((0, top, width, min(top + step, height)))
        if transparent is not None:
            band.info["transparency"] = transparent
        straight = band.convert("RGBA")
        white = Image.new("RGBA", straight.size, "white")
        pixels[top : top + step] = np.asarray(Image.alpha_composite(white, straight).convert("RGB"))
    return pixels


def _from_tensor(tensor: Any) -> Pixels:
    values = tensor.detach().cpu().numpy()
    if values.ndim == 3 and values.shape[0] in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    return _from_array(values, "tensor")


def _from_array(values: NDArray[Any], source: object) -> Pixels:
    shape = "x".join(map(str, values.shape))
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise BadSample(source, "shape (height, width) or (height, width, 1 | 3 | 4)", f"({shape})")
    if not 0 < values.shape[0] * values.shape[1] <= MAX_PIXELS:
        raise BadSample(source, f"1 to {MAX_PIXELS} pixels", f"({shape})")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # False for NaN
            raise BadSample(source, "floats in 0..1", f"values in {low:g}..{high:g}")
        values = np.rint(values * 255).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise BadSample(source, "uint8, uint16, bool or floats in 0..1", f"{values.dtype} values")
    if values.ndim == 2 or values.shape[2] == 1:
        return np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    if values.shape[2] == 4:
        return _flatten(Image.fromarray(np.ascontiguousarray(values)), source)
    return np.ascontiguousarray(values)


def _check(pixels: Pixels, source: object) -> Pixels:
    if not 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS:
        raise BadSample(source, f"1 to {MAX_PIXELS} pixels", f"{pixels.shape[1]} x {pixels.shape[0]}")
    return pixels


def _glimpse(stream: BinaryIO) -> str:
    """The first bytes, for the message."""
    stream.seek(0)
    head = stream.read(12)
    return "a TIFF of a kind that Pillow does not read" if head[:4] in _TIFF else beginning(head)
