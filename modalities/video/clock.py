"""Times at which frames are shown -> a constant rate, for files whose frames come at any times."""

import numpy as np
from numpy.typing import NDArray

from modalities.video.bounds import sampled
from modalities.video.sample import MAX_FRAMES

UNEVEN = 0.25
"""Relative deviation of an interval from the median above which the clip is resampled."""


def regular(starts: NDArray[np.float64], end: float) -> tuple[NDArray[np.int64], float]:
    """Indices of the frames shown at the ticks of a constant rate, at most `MAX_FRAMES`, and that rate.

    Frames at about equal intervals are used once each. Otherwise the rate is that of the median interval, and the frame
    in the middle of each tick is used: a frame that is shown for long is repeated, some of short ones are left out.

    Args:
        starts: When each frame appears, in seconds, ascending, `(frames,)`.
        end: When the last one disappears.

    Returns:
        Indices `(ticks,)`, and ticks per second.

    Example:
        >>> indices, rate = regular(np.array([0.0, 0.1, 0.2, 0.5]), 0.6)
        >>> indices.tolist(), round(rate, 3)
        ([0, 1, 2, 2, 2, 3], 10.0)
    """
    steps = np.diff(np.append(starts, end))
    duration = float(end - starts[0])
    usual = np.abs(steps - np.median(steps)) <= UNEVEN * np.median(steps)
    if usual.all():
        indices = sampled(len(starts))
    else:
        typical = steps[usual].mean()  # the median alone has the rounding error of the file's ticks
        ticks = min(max(1, round(duration / typical)), MAX_FRAMES)
        middles = starts[0] + (np.arange(ticks) + 0.5) * duration / ticks
        indices = np.searchsorted(starts, middles, side="right") - 1
    return indices, len(indices) / duration
