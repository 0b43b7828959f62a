"""Video files -> `Echo`, by the reader that echo and video share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.video_file import missing_frames, opened, pixels_of, upright
from modalities.echo.formats.resampling import even
from modalities.echo.sample import MAX_SIDE, MAX_VALUES, Echo, check_rate, check_size


def parse(data: bytes, source: str) -> Echo:
    """Decode the video stream to grey levels of the full range, at regular times.

    Raises:
        BadSample: it is damaged, truncated, too large, or a still.
        UserError: PyAV is not installed.
    """
    with opened(data, source, extra="echo", most_pixels=MAX_SIDE**2) as (file, stream):
        return _decode(file, stream, source)


def _decode(file: Any, stream: Any, source: str) -> Echo:
    context = stream.codec_context
    stated = int(stream.frames)  # 0 = not stated
    check_size(source, max(stated, 2), context.height, context.width)
    frames: list[NDArray[np.uint8]] = []
    times: list[float | None] = []
    for frame in file.decode(stream):
        grey = upright(pixels_of(frame, format="gray"), frame)
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
    faults = missing_frames(len(frames), stated, source)
    indices, rate = _clock(times, stream, source)
    if len(indices) * frames[0].size > MAX_VALUES:
        raise BadSample(source, f"at most {MAX_VALUES} pixels in all frames", f"{len(indices)} frames")
    return Echo(np.stack([frames[index] for index in indices]), check_rate(source, rate), faults)


def _clock(times: list[float | None], stream: Any, source: str) -> tuple[NDArray[np.int64], float]:
    stated = float(stream.average_rate or 0)
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return np.arange(len(times)), stated
    indices, rate = even(known, source)
    # Time stamps are rounded to the container's ticks: the stated rate is more precise if they agree.
    return indices, stated if abs(rate - stated) <= 0.02 * stated else rate
