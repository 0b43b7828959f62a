"""Resampling of frames at irregular times to a constant rate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample

UNEVEN = 0.25
"""Relative deviation of an interval from the median above which frames are resampled."""


def even(times: Sequence[float], source: object) -> tuple[NDArray[np.int64], float]:
    """Index of the displayed frame at each tick of a constant rate, and that rate.

    If the intervals agree, each frame is used once. Otherwise frames are resampled at the median interval: frames
    before a gap are repeated, and some frames at shorter intervals are dropped.

    Args:
        times: Display time of each frame, in seconds.
        source: Origin of the frames, for messages.

    Returns:
        Frame indices `(ticks,)`, and frames per second.

    Raises:
        BadSample: the times do not increase, or have implausible gaps.

    Example:
        >>> indices, rate = even([0.0, 0.1, 0.2, 0.4, 0.5], "clip.avi")
        >>> indices.tolist(), round(rate, 3)
        ([0, 1, 2, 2, 3, 4], 10.0)
    """
    shown = np.asarray(times, dtype=np.float64)
    steps = np.diff(shown)
    if not (np.isfinite(shown).all() and len(steps) and (steps > 0).all()):
        raise BadSample(source, "frames at rising times", "times that do not rise")
    typical = float(np.median(steps))
    if (np.abs(steps - typical) <= UNEVEN * typical).all():
        return np.arange(len(shown)), float(len(steps) / (shown[-1] - shown[0]))
    ticks = (shown[-1] - shown[0]) / typical
    if ticks > 4 * len(shown):  # checked before allocation: a corrupt header may state any number of frames
        raise BadSample(source, "frames at about regular times", f"{len(shown)} frames over {ticks:.0f} intervals")
    clock = shown[0] + typical * np.arange(round(ticks) + 1)
    return np.searchsorted(shown, clock + 0.25 * typical, side="right") - 1, 1 / typical
