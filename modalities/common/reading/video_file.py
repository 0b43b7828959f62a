"""Untrusted video files, opened by PyAV: the container is named by content, and no other file is ever opened."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from mmalign.registry import missing_extra

HEAD = 512
"""First bytes of a file that `container` needs."""

CONTAINERS = "AVI, MP4, MOV, MKV, WebM, MPEG or FLV"

LOST = 2
"""Up to this many frames fewer than the header states are a fault; more are a truncated file."""

QUICKTIME = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""Types of a first box of MP4 and MOV; old QuickTime files have no ftyp."""

TS_PACKET = 188


def container(head: bytes) -> str | None:
    """FFmpeg's container name from a file's first `HEAD` bytes; None = no video that is supported.

    Example:
        >>> container(b"RIFF0000AVI LIST"), container(b"#EXTM3U")
        ('avi', None)
    """
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[4:8] in QUICKTIME:
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if head[:4] == b"\0\0\1\xba":
        return "mpeg"
    if head[: 2 * TS_PACKET + 1 : TS_PACKET] == b"GGG":  # one of them begins a GIF too
        return "mpegts"
    return "flv" if head[:4] == b"FLV\x01" else None


@contextmanager
def opened(data: bytes | PathLike[str], source: str, *, extra: str, most_pixels: int) -> Iterator[tuple[Any, Any]]:
    """Open a file and its video stream: FFmpeg's choice among several, never a cover picture.

    Errors of FFmpeg in the block become `BadSample`, because it reports most damage while decoding.

    Args:
        data: The file's bytes or its path.
        source: Origin of the file, for messages.
        extra: The extra that installs PyAV, for messages.
        most_pixels: Largest number of pixels of a frame; FFmpeg allocates no larger one.

    Yields:
        PyAV's container and its stream, which raises on damaged data instead of concealing it.

    Raises:
        BadSample: it is damaged, has no video, or one in an unknown codec.
        UserError: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_extra("av", extra) from error
    limits = {"max_pixels": str(most_pixels)}
    try:
        with io.BytesIO(data) if isinstance(data, bytes) else Path(data).open("rb") as stream:
            name = container(stream.read(HEAD))
            stream.seek(0)
            # The name is explicit and nothing else may be opened: playlists and references would name other files.
            with av.open(stream, format=name, options=limits, metadata_errors="replace", io_open=_nothing_else) as file:
                yield file, _chosen(file, source, limits)
    except BadSample:
        raise
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError, PermissionError) as error:
        raise BadSample(source, "a readable video", f"a damaged one ({type(error).__name__})") from error


def _chosen(file: Any, source: str, limits: dict[str, str]) -> Any:
    import av.stream

    moving = [stream for stream in file.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        raise BadSample(source, "a video", "a file without one")
    best = file.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise BadSample(source, "a video in a codec that FFmpeg knows", "one that it does not")
    stream.codec_context.thread_count = 1  # loaders already use one process per core
    stream.codec_context.options = limits | {"err_detect": "explode"}
    return stream


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> Any:
    """Refuse to open any other file."""
    raise PermissionError(url)


def pixels_of(frame: Any, **changes: Any) -> NDArray[Any]:
    """A decoded frame as an array, converted by the calling thread.

    PyAV 17 and later start threads of their own for every converted frame, which live as long as the frame: reading
    many short clips leaves hundreds of them.

    Args:
        frame: PyAV's frame.
        changes: Format, size and interpolation, as `VideoFrame.to_ndarray` takes them.
    """
    import av

    alone = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
    array: NDArray[Any] = frame.to_ndarray(**changes, **alone)
    return array


def upright(pixels: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Turn and mirror a decoded picture as the file's display matrix states; phones store portrait clips turned.

    Args:
        pixels: `(height, width)` or `(height, width, 3)`.
        frame: PyAV's frame that they come from.
    """
    turn = display_turn(frame)
    transposed, mirrored, flipped = turn
    pixels = pixels.swapaxes(0, 1) if transposed else pixels
    pixels = pixels[:, ::-1] if mirrored else pixels
    return pixels[::-1] if flipped else pixels


def display_turn(frame: Any) -> tuple[bool, bool, bool]:
    """Whether height and width are exchanged, and then columns and rows reversed, to show a frame upright.

    The matrix of ISO/IEC 14496-12 maps a pixel (x, y) to (a x + c y, b x + d y); rotations by other than quarter turns
    are rounded to them.
    """
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def missing_frames(count: int, stated: int, source: str) -> tuple[str, ...]:
    """A fault where a few frames of the number in the header are missing.

    Args:
        count: Frames in the file.
        stated: Frames that its header states; 0 = not stated.
        source: Origin of the file, for messages.

    Raises:
        BadSample: more than `LOST` are missing.
    """
    if count >= stated:
        return ()
    if count < stated - LOST:
        raise BadSample(source, f"{stated} frames, as its header states", f"a truncated file of {count}")
    return (f"{count} frames of the {stated} that its header states",)
