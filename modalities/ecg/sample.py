"""One recording in memory: millivolts by lead and time, validity mask, faults."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The standard leads in the standard order, in which they are kept."""

MAX_VALUES = 2**26
"""Maximum size of a recording, leads times samples: 256 MB in memory."""

RATES = (20.0, 20_000.0)
"""Plausible sampling rates, in Hz."""

MIN_SECONDS = 1.0
"""Minimum duration of a recording in seconds: one heart beat."""


@dataclass(frozen=True, eq=False)
class Ecg:
    """A recording.

    Args:
        signal: Millivolts, `(leads, time)` float32; 0 where not valid.
        rate: Samples a second.
        leads: The name of each row, from `LEADS` and in its order.
        valid: True where the signal was recorded, `(leads, time)` bool; a lead without any signal is all False.
        faults: Descriptions of faults found while reading; empty for a good recording.

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
        """Duration in seconds."""
        return float(self.signal.shape[1] / self.rate)

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
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
    """Output of a file parser: channels with the names, order and units of the file.

    Args:
        values: `(channels, time)` numbers; NaN = not recorded.
        rate: Samples a second.
        names: The name of each channel.
        units: The unit of each channel, or one for all.
        faults: Descriptions of non-fatal faults found by the parser.
    """

    values: NDArray[Any]
    rate: float
    names: Sequence[str]
    units: Sequence[str] | str
    faults: tuple[str, ...] = ()
