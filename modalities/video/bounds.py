"""Bounds of a clip in memory: which frames are kept of a long one, and the size that large frames are reduced to."""

import numpy as np
from numpy.typing import NDArray

from modalities.common.framing import Framing
from modalities.video.sample import LONG_SIDE, MAX_FRAMES, MIN_SIDE, SHORT_SIDE, Clip, Tracks

CHUNK = 16
"""Frames that are resized at a time."""


def sampled(count: int, most: int = MAX_FRAMES) -> NDArray[np.int64]:
    """Indices of the frames that are kept: all of them, or the middle of each of `most` equal intervals.

    Args:
        count: Number of frames.
        most: Largest number of indices.

    Example:
        >>> sampled(3).tolist(), sampled(100, most=4).tolist()
        ([0, 1, 2], [12, 37, 62, 87])
    """
    number = min(count, most)
    return (2 * np.arange(number) + 1) * count // (2 * number)


def reduced_size(height: int, width: int) -> tuple[int, int]:
    """Height and width within `SHORT_SIDE` and `LONG_SIDE`, of the same aspect ratio as far as whole pixels allow.

    Example:
        >>> reduced_size(1080, 1920), reduced_size(240, 320)
        ((256, 455), (240, 320))
    """
    factor = min(1.0, SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width))
    # A very long and narrow frame keeps its narrow side: less than `MIN_SIDE` pixels show nothing.
    return max(MIN_SIDE, round(height * factor)), max(MIN_SIDE, round(width * factor))


def bounded(frames: NDArray[np.uint8], rate: float, tracks: Tracks | None, faults: tuple[str, ...] = ()) -> Clip:
    """A clip whose frames and trajectories are reduced to the largest size.

    Args:
        frames: At most `MAX_FRAMES`, of any size `(time, height, width, 3)`.
        rate: Frames per second.
        tracks: Trajectories in the same frames; their maps may have another height and width.
        faults: Descriptions of faults found while reading.
    """
    height, width = frames.shape[1:3]
    size = reduced_size(height, width)
    if size != (height, width):
        framing = Framing((0, 0, height, width), size, size)
        chunks = [framing.bilinear(frames[start : start + CHUNK]) for start in range(0, len(frames), CHUNK)]
        frames = np.concatenate(chunks)
    if tracks is not None and tracks.labels.shape[1:] != size:
        framing = Framing((0, 0, *tracks.labels.shape[1:]), size, size)
        tracks = Tracks(framing.nearest(tracks.labels), tracks.table)
    return Clip(np.ascontiguousarray(frames), rate, tracks, faults)
