"""Test videos, written by PyAV: each frame shows its own number as bars, so that every frame can be checked."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

BITS = 14
"""Bars of a picture: the binary digits of its number, the lowest at the left."""

TICKS = 1000


def numbered(number: int, height: int = 48, width: int = 112) -> np.ndarray:
    """A picture that shows a number; `(height, width, 3)` uint8."""
    bits = (number >> np.arange(BITS)) & 1
    bars = bits[np.arange(width) * BITS // width]
    return np.broadcast_to(np.where(bars, 230, 25).astype(np.uint8)[None, :, None], (height, width, 3)).copy()


def number_of(frame: np.ndarray) -> int:
    """The number that a picture shows."""
    height, width = frame.shape[:2]
    middles = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(((frame[height // 2, middles].mean(axis=1) > 127) << np.arange(BITS)).sum())


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def write_video(
    pictures: Sequence[np.ndarray],
    form: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    rate: int = 10,
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    options: Mapping[str, str] | None = None,
    layout: str = "rgb24",
    index_first: bool = False,
    stream: Any = None,
) -> bytes:
    """A film of `rate` frames a second; `times` in milliseconds where they are to be others; `layout` of `pictures`."""
    arguments = (pictures, form, codec, pixels, layout, rate, times, rotation, dict(options or {}))
    if index_first:  # the muxer opens its own output again, by name
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            _write(str(path), {"movflags": "faststart"}, *arguments)
            return path.read_bytes()
    target = io.BytesIO() if stream is None else stream
    _write(target, {}, *arguments)
    return target.getvalue() if stream is None else bytes(stream.data)


def _write(
    target: Any,
    container_options: dict[str, str],
    pictures: Sequence[np.ndarray],
    form: str,
    codec: str,
    pixels: str,
    layout: str,
    rate: int,
    times: Sequence[int] | None,
    rotation: int | None,
    options: dict[str, str],
) -> None:
    import av

    with av.open(target, "w", format=form, options={"fflags": "bitexact", **container_options}) as file:
        track = file.add_stream(codec, rate=rate if times is None else TICKS, options=options)
        height, width = pictures[0].shape[:2]
        track.height, track.width, track.pix_fmt = height, width, pixels
        if rotation is not None:
            track.set_display_rotation(rotation)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format=layout)
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, TICKS)
            file.mux(track.encode(frame))
        file.mux(track.encode())


class Pipe:
    """A target that cannot seek: a muxer can neither go back to the header nor write an index at its place."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, part: bytes) -> int:
        self.data += part
        return len(part)
