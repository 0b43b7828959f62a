"""AVI and MP4 -> `Echo`, by PyAV. The container is set explicitly: FFmpeg's playlists would open other files."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from mmalign.registry import missing_extra
from modalities.echo.formats.resampling import even
from modalities.echo.sample import MAX_SIDE, MAX_VALUES, Echo, check_rate, check_size

LOST = 2
"""Up to this many frames fewer than the header states are a fault; more are a truncated file."""

LIMITS = {"max_pixels": str(MAX_SIDE**2)}
"""FFmpeg decodes a frame when it opens a file: the limit applies to the stream's own frame size too."""


def container(head: bytes) -> str | None:
    """FFmpeg's container name from a file's first twelve bytes; None = unsupported.

    Example:
        >>> container(b"RIFF0000AVI LIST")
        'avi'
    """
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "mov" if head[4:8] == b"ftyp" else None


def parse(data: bytes, source: str) -> Echo:
    """Decode the first video stream to grey levels of the full range, at regular times.

    Raises:
        BadSample: it is damaged, truncated, too large, or a still.
        UserError: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_extra("av", "echo") from error
    try:
        with av.open(
            io.BytesIO(data), format=container(data), options=LIMITS, metadata_errors="replace", io_open=_nothing_else
        ) as file:
            if not file.streams.video:
                raise BadSample(source, "a video", "a file without one")
            return _decode(file, file.streams.video[0], source)
    except BadSample:
        raise
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError, PermissionError) as error:
        raise BadSample(source, "a readable video", f"a damaged one ({type(error).__name__})") from error


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> Any:
    """Refuse to open any other file."""
    raise PermissionError(url)


def _decode(file: Any, stream: Any, source: str) -> Echo:
    context = stream.codec_context
    if context is None:
        raise BadSample(source, "a video in a codec that FFmpeg knows", "one that it does not")
    stated = int(stream.frames)  # 0 = not stated
    check_size(source, max(stated, 2), context.height, context.width)
    context.thread_count = 1  # loaders already use one process per core
    context.options = LIMITS | {"err_detect": "explode"}  # raise on damaged data instead of concealing it
    frames: list[NDArray[np.uint8]] = []
    times: list[float | None] = []
    for frame in file.decode(stream):
        grey = frame.to_ndarray(format="gray")
        if frame.is_corrupt:
            raise BadSample(source, "a readable video", f"a damaged frame {len(frames)}")
        if frames and grey.shape != frames[0].shape:
            raise BadSample(source, "frames of one size", f"{frames[0].shape} and {grey.shape}")
        if not frames:
            check_size(source, max(stated, 2), *grey.shape)
        if (len(frames) + 1) * grey.size > MAX_VALUES:
            raise BadSample(source, f"at most {MAX_VALUES} pixels in all frames", f"more than {len(frames)} frames")
        frames.append(grey)
        times.append(frame.time)
    check_size(source, len(frames), context.height, context.width)
    faults: tuple[str, ...] = ()
    if len(frames) < stated:
        if len(frames) < stated - LOST:
            raise BadSample(source, f"{stated} frames, as its header states", f"a truncated file of {len(frames)}")
        faults = (f"{len(frames)} frames of the {stated} that its header states",)
    places, rate = _clock(times, stream, source)
    if len(places) * frames[0].size > MAX_VALUES:
        raise BadSample(source, f"at most {MAX_VALUES} pixels in all frames", f"{len(places)} frames")
    return Echo(np.stack([frames[place] for place in places]), check_rate(source, rate), faults)


def _clock(times: list[float | None], stream: Any, source: str) -> tuple[NDArray[np.int64], float]:
    stated = float(stream.average_rate or 0)
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return np.arange(len(times)), stated
    places, rate = even(known, source)
    # Time stamps are rounded to the container's ticks: the stated rate is more precise if they agree.
    return places, stated if abs(rate - stated) <= 0.02 * stated else rate
