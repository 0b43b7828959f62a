"""Key frames: those at which the colours of the picture change most."""

import numpy as np
from numpy.typing import NDArray

from modalities.video.bounds import sampled

LEVELS = 8
"""Bins of the histogram of each colour."""

STRIDE = 4
"""Pixels that are left out between two that are counted, along each axis."""


def key_frames(frames: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Indices of the first frame and of the `count - 1` frames whose colours differ most from those of the one before.

    Colours are histograms of red, green and blue with eight bins each; the change is the sum of absolute differences.
    Among equal changes, as in a still scene, the frames of uniform sampling come first.

    Args:
        frames: `(time, height, width, 3)`.
        count: Largest number of indices.

    Returns:
        Ascending indices.

    Example:
        >>> frames = np.zeros((20, 8, 8, 3), np.uint8)
        >>> frames[7:], frames[15:] = 100, 250
        >>> key_frames(frames, 3).tolist()
        [0, 7, 15]
    """
    total = len(frames)
    if total <= count:
        return np.arange(total)
    bins = (frames[:, ::STRIDE, ::STRIDE] // (256 // LEVELS)).reshape(total, -1, 3).astype(np.int64)
    bins += LEVELS * np.arange(3)
    histograms = np.stack([np.bincount(frame.ravel(), minlength=3 * LEVELS) for frame in bins])
    change = np.abs(np.diff(histograms, axis=0)).sum(axis=1)
    others = np.arange(1, total)
    order = np.lexsort((others, ~np.isin(others, sampled(total, count)), -change))
    return np.sort(np.append(0, others[order[: count - 1]]))
