"""One recording in memory: millivolts by lead and time, what is valid of them, and what looked wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The standard leads in the standard order, in which they are kept."""

MAX_VALUES = 2**26
"""Largest recording that is read, leads times samples: 256 MB in memory."""

RATES = (20.0, 20_000.0)
"""Sampling rates that are believed, in Hz."""

MIN_SECONDS = 1.0
"""Shortest recording that is read: less holds no heart beat."""


@dataclass(frozen=True, eq=False)
class Ecg:
    """A recording.

    Args:
        signal: Millivolts, `(leads, time)` float32; 0 where not valid.
        rate: Samples a second.
        leads: The name of each row, from `LEADS` and in its order.
        valid: True where the signal was recorded, `(leads, time)` bool; a lead without any signal is all False.
        faults: What looked wrong when it was read, in words; empty for a good recording.

    Example:
        >>> ecg = Ecg(np.zeros((1, 500), np.float32), 500.0, ("II",), np.ones((1, 500), bool))
        >>> ecg.seconds, ecg.leads
        (1.0, ('II',))
    """

    signal: NDArray[np.float32]
    rate: float
    leads: tuple[str, ...]
    valid: NDArray[np.bool_]
    faults: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(self.signal.shape[1] / self.rate)

    @property
    def nbytes(self) -> int:
        """Its size in memory."""
        return self.signal.nbytes + self.valid.nbytes

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ecg)
            and (self.rate, self.leads, self.faults) == (other.rate, other.leads, other.faults)
            and np.array_equal(self.signal, other.signal)
            and np.array_equal(self.valid, other.valid)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass
class Channels:
    """What a file's parser hands over: channels as they are named there, in whatever order and unit.

    Args:
        values: `(channels, time)` numbers; NaN = not recorded.
        rate: Samples a second.
        names: The name of each channel.
        units: The unit of each channel, or one for all.
        faults: What the parser found to be wrong and could live with.
    """

    values: NDArray[Any]
    rate: float
    names: Sequence[str]
    units: Sequence[str] | str
    faults: tuple[str, ...] = ()
