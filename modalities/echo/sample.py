"""One clip in memory: grey frames and their rate, without colour, tags and pixels outside the ultrasound region."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample

MAX_VALUES = 2**28
"""Maximum size of a clip, frames times height times width: 256 MB in memory."""

MAX_SIDE = 4096
"""Maximum height and width of a frame, in pixels."""

MIN_SIDE = 8
"""Minimum height and width of a frame, in pixels."""

MIN_FRAMES = 2
"""Minimum number of frames: one frame is a still image."""

RATES = (1.0, 1000.0)
"""Plausible frame rates, in frames per second."""


@dataclass(frozen=True, eq=False)
class Echo:
    """A clip.

    Args:
        frames: Grey levels 0..255, `(time, height, width)` uint8.
        rate: Frames per second.
        faults: Descriptions of faults found while reading; empty for a good clip.

    Example:
        >>> echo = Echo(np.zeros((30, 112, 112), np.uint8), 15.0)
        >>> echo.seconds, echo.nbytes
        (2.0, 376320)
    """

    frames: NDArray[np.uint8]
    rate: float
    faults: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.frames) / self.rate

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        return self.frames.nbytes

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Echo)
            and (self.rate, self.faults) == (other.rate, other.faults)
            and np.array_equal(self.frames, other.frames)
        )

    __hash__ = None  # type: ignore[assignment]


def check_size(source: object, frames: Any, height: Any, width: Any) -> None:
    """Reject still images and frames that are too small or too large, from a header, before decoding.

    Raises:
        BadSample: it is.
    """
    shape = f"{frames} frames of {width} x {height}"
    if frames < MIN_FRAMES:
        raise BadSample(source, f"a cine of at least {MIN_FRAMES} frames", "a still image" if frames == 1 else "none")
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise BadSample(source, f"frames of {MIN_SIDE} to {MAX_SIDE} pixels a side", shape)
    if frames * height * width > MAX_VALUES:
        raise BadSample(source, f"at most {MAX_VALUES} pixels in all frames", shape)


def check_rate(source: object, rate: float) -> float:
    """The rate, checked for plausibility.

    Raises:
        BadSample: it cannot.
    """
    if not RATES[0] <= rate <= RATES[1]:  # False for NaN
        raise BadSample(source, f"a rate in {RATES[0]:g}..{RATES[1]:g} frames a second", f"{rate:g}")
    return float(rate)
