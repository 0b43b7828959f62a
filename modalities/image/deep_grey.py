"""Grey pictures of more than eight bits, as Pillow decodes them -> values that a reader can scale.

Pillow leaves four properties of such files to its caller: TIFF's photometric kind 0 (white is zero), unsigned 32-bit
values, the byte order of packed big-endian TIFFs, and the transparent value of a PNG.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from mmalign.errors import BadSample

WHITE = 65535
"""White of integers, as of 16 bits."""

_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339  # TIFF tags
_UNSIGNED, _SIGNED = (1,), (2,)

_KINDS: dict[tuple[bytes, tuple[int, ...], int], tuple[str, str]] = {
    (b"II", _UNSIGNED, 12): ("I;16", "I;12"),
    (b"MM", _UNSIGNED, 12): ("I;16", "I;12"),  # packed bits have no byte order
    (b"II", _UNSIGNED, 16): ("I;16", "I;16"),
    (b"MM", _UNSIGNED, 16): ("I;16B", "I;16B"),
    (b"II", _SIGNED, 16): ("I", "I;16S"),
    (b"MM", _SIGNED, 16): ("I", "I;16BS"),
    (b"II", _UNSIGNED, 32): ("I", "I;32N"),
    (b"MM", _UNSIGNED, 32): ("I", "I;32BS"),
    (b"II", _SIGNED, 32): ("I", "I;32S"),
    (b"MM", _SIGNED, 32): ("I", "I;32BS"),
}
"""Byte order, sample format and bits of a grey TIFF -> Pillow's mode and raw mode."""


def know_deep_tiffs() -> None:
    """Add the deep grey kinds that Pillow's table of TIFFs lacks; its own entries stay as they are."""
    for (order, sample_format, bits), modes in _KINDS.items():
        for photometric in (0, 1):
            key: Any = (order, photometric, sample_format, 1, (bits,), ())
            TiffImagePlugin.OPEN_INFO.setdefault(key, modes)


@dataclass(frozen=True)
class Deep:
    """What a file states about its deep grey values.

    Args:
        white_is_zero: TIFF's photometric kind 0.
        bits: Bits of a value; 0 = not stated.
        unsigned: Whether values are unsigned.
        swapped: Whether Pillow reads the bytes of a value in the wrong order.
    """

    white_is_zero: bool = False
    bits: int = 0
    unsigned: bool = False
    swapped: bool = False

    @staticmethod
    def of(image: Image.Image) -> "Deep":
        """From a picture as it was opened, before it is turned or converted."""
        tags: Any = getattr(image, "tag_v2", None)
        if tags is None:
            return Deep()
        # libtiff returns the machine's byte order, and Pillow takes it for the file's in these modes.
        packed = bool(getattr(image, "use_load_libtiff", False)) and image.mode in ("I", "F")
        bits, kind = tags.get(_BITS, (0,)), tags.get(_FORMAT, _UNSIGNED)
        return Deep(tags.get(_PHOTOMETRIC) == 0, bits[0], kind[0] == 1, packed and tags.prefix == b"MM")


def deep_values(pixels: NDArray[Any], deep: Deep, transparent: Any, source: object) -> NDArray[Any]:
    """The values as uint16, or as floats, over white.

    Args:
        pixels: `(height, width)` as Pillow decodes them: uint16, int32 or float32.
        deep: What the file states.
        transparent: The value that is transparent; None = none.
        source: Origin of the picture, for messages.

    Raises:
        BadSample: integers exceed 16 bits.
    """
    values = _ordered(pixels, deep)
    clear = None if transparent is None else values == transparent
    white: int | float = WHITE
    if values.dtype.kind == "f":
        white = 1.0
    elif values.dtype != np.uint16:
        if values.size and not 0 <= values.min() <= values.max() <= WHITE:
            raise BadSample(source, f"grey levels in 0..{WHITE}", f"{values.min()}..{values.max()}")
        values = values.astype(np.uint16)
    if deep.bits == 12:
        values = ((values.astype(np.uint32) * WHITE + 2047) // 4095).astype(np.uint16)
    if deep.white_is_zero:
        values = np.asarray(white - values, values.dtype)
    return values if clear is None else np.where(clear, np.asarray(white, values.dtype), values)


def _ordered(pixels: NDArray[Any], deep: Deep) -> NDArray[Any]:
    values = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if deep.swapped and deep.bits == 16:
        values = values.astype(np.int16).byteswap().astype(np.int32)
    elif deep.swapped:
        values = values.byteswap()
    return values.view(np.uint32) if deep.unsigned and values.dtype == np.int32 else values
