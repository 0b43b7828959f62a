"""Frames that were not taken at regular times are brought to regular ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample

UNEVEN = 0.25
"""How far an interval may lie from the typical one, as a share of it, before frames are chosen anew."""


def even(times: Sequence[float], source: object) -> tuple[NDArray[np.int64], float]:
    """Which frame is on the screen at each tick of a regular clock, and the rate of that clock.

    Where the intervals agree, each frame is taken once. Otherwise the clock ticks at the median interval: frames before
    a gap are held, and of frames that came too fast some are left out.

    Args:
        times: When each frame is shown, in seconds.
        source: Where they came from, for the message.

    Returns:
        Places of frames `(ticks,)`, and frames a second.

    Raises:
        BadSample: the times do not rise, or have gaps of no sense.

    Example:
        >>> places, rate = even([0.0, 0.1, 0.2, 0.4, 0.5], "clip.avi")
        >>> places.tolist(), round(rate, 3)
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
    if ticks > 4 * len(shown):  # before the clock is made: a lying header asks for any number of frames
        raise BadSample(source, "frames at about regular times", f"{len(shown)} frames over {ticks:.0f} intervals")
    clock = shown[0] + typical * np.arange(round(ticks) + 1)
    return np.searchsorted(shown, clock + 0.25 * typical, side="right") - 1, 1 / typical
