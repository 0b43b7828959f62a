"""Preprocessing of recordings: an ordered list of typed steps, each one JSON object."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.registry import nearest

Values = NDArray[np.float64]

EDGE_SECONDS = 2.0
"""Padding of a recording at its ends before filtering, for the filter's transient."""


@dataclass(frozen=True)
class Window:
    """A recording between steps: values and mask `(leads, time)`, samples per second."""

    values: Values
    valid: NDArray[np.bool_]
    rate: float


class Step:
    """One preprocessing step, built from its JSON arguments; returns a new window."""

    name: ClassVar[str]

    def __call__(self, window: Window, rng: np.random.Generator | None = None) -> Window:
        """Apply the step; `rng` is given in training."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """As JSON: its name and arguments."""
        return {"step": self.name, **asdict(self)}  # type: ignore[call-overload]

    def _need(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise UserError(f"ecg transform, step {self.name}: {name} must be {wanted}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Bandpass(Step):
    """Zero-phase Butterworth band-pass (forwards and backwards), which does not shift the ST segment.

    Args:
        low: Lower edge in Hz; 0 = a low-pass.
        high: Upper edge in Hz, at most 0.45 of the rate.
        order: Order of one pass.
    """

    name: ClassVar[str] = "bandpass"
    low: float = 0.5
    high: float = 40.0
    order: int = 4

    def __post_init__(self) -> None:
        self._need("low", 0 <= self.low < self.high, "at least 0 and below high")
        self._need("order", isinstance(self.order, int) and 1 <= self.order <= 8, "an integer in 1..8")

    def __call__(self, window: Window, rng: np.random.Generator | None = None) -> Window:
        sections = _butterworth(self.order, self.low, min(self.high, 0.45 * window.rate), window.rate)
        return replace(window, values=_both_ways(sections, window))


@dataclass(frozen=True)
class Notch(Step):
    """Zero-phase notch filter for mains interference; not needed with a low-pass below it.

    Args:
        frequency: 50 in most of the world, 60 in the Americas.
        quality: Frequency divided by the width of the notch.
    """

    name: ClassVar[str] = "notch"
    frequency: float = 50.0
    quality: float = 30.0

    def __post_init__(self) -> None:
        self._need("frequency", self.frequency > 0, "positive")
        self._need("quality", self.quality > 0, "positive")

    def __call__(self, window: Window, rng: np.random.Generator | None = None) -> Window:
        from scipy import signal as dsp

        if self.frequency >= window.rate / 2:
            return window  # it is not in the recording
        sections = dsp.tf2sos(*dsp.iirnotch(self.frequency, self.quality, fs=window.rate))
        return replace(window, values=_both_ways(sections, window))


@dataclass(frozen=True)
class Resample(Step):
    """Polyphase resampling with its low-pass against aliasing; `time` becomes `round(time * rate / old rate)`.

    Args:
        rate: Samples a second.
    """

    name: ClassVar[str] = "resample"
    rate: float = 100.0

    def __post_init__(self) -> None:
        self._need("rate", 20 <= self.rate <= 20_000, "in 20..20000 Hz")

    def __call__(self, window: Window, rng: np.random.Generator | None = None) -> Window:
        from scipy import signal as dsp

        if self.rate == window.rate:
            return window
        ratio = Fraction(self.rate / window.rate).limit_denominator(5000)
        length = max(1, round(window.values.shape[1] * self.rate / window.rate))
        values = dsp.resample_poly(window.values, ratio.numerator, ratio.denominator, axis=1, padtype="median")
        values = np.pad(values[:, :length], ((0, 0), (0, max(0, length - values.shape[1]))), mode="edge")
        nearest_old = np.minimum((np.arange(length) / self.rate * window.rate).astype(int), window.valid.shape[1] - 1)
        return Window(values, window.valid[:, nearest_old], self.rate)


@dataclass(frozen=True)
class Crop(Step):
    """Crop or pad to one duration: the centre at inference, a random window in training; padding at the end is masked.

    Args:
        seconds: The duration.
        random: Minimum fraction of it that training keeps, at a random position; 1 = all of it.
    """

    name: ClassVar[str] = "crop"
    seconds: float = 10.0
    random: float = 1.0

    def __post_init__(self) -> None:
        self._need("seconds", 1 <= self.seconds <= 600, "in 1..600")
        self._need("random", 0.1 <= self.random <= 1, "in 0.1..1")

    def __call__(self, window: Window, rng: np.random.Generator | None = None) -> Window:
        length, there = round(self.seconds * window.rate), window.values.shape[1]
        samples = length
        if rng is not None and self.random < 1:
            samples = max(1, int(length * rng.uniform(self.random, 1.0)))
        samples = min(samples, there)
        start = (there - samples) // 2 if rng is None else int(rng.integers(there - samples + 1))
        pad = ((0, 0), (0, length - samples))
        part = slice(start, start + samples)
        return replace(window, values=np.pad(window.values[:, part], pad), valid=np.pad(window.valid[:, part], pad))


@dataclass(frozen=True)
class Normalise(Step):
    """Normalise over valid samples: subtract the mean and divide.

    Args:
        by: lead (each by its own standard deviation), record (all by their common one, which keeps the ratio of
            leads), or fixed (by `scale`, which keeps voltages).
        floor: Minimum divisor in millivolt, for nearly flat leads.
        scale: The divisor in millivolt for `fixed`.
    """

    name: ClassVar[str] = "normalise"
    by: str = "lead"
    floor: float = 0.01
    scale: float = 0.25

    def __post_init__(self) -> None:
        self._need("by", self.by in ("lead", "record", "fixed"), "lead, record or fixed")
        self._need("floor", self.floor > 0, "positive")
        self._need("scale", self.scale > 0, "positive")

    def __call__(self, window: Window, rng: np.random.Generator | None = None) -> Window:
        count = window.valid.sum(1, keepdims=True).clip(min=1)
        mean = np.where(window.valid, window.values, 0).sum(1, keepdims=True) / count
        centred = np.where(window.valid, window.values - mean, 0.0)
        if self.by == "fixed":
            return replace(window, values=centred / self.scale)
        axis = 1 if self.by == "lead" else None
        variance = (centred**2).sum(axis, keepdims=True) / window.valid.sum(axis, keepdims=True).clip(min=1)
        return replace(window, values=centred / np.sqrt(variance).clip(min=self.floor))


STEPS: dict[str, type[Step]] = {kind.name: kind for kind in (Bandpass, Notch, Resample, Crop, Normalise)}

DEFAULT: tuple[Step, ...] = (Bandpass(), Resample(), Crop(), Normalise())


def make_steps(settings: Sequence[Any]) -> tuple[Step, ...]:
    """Steps from JSON: `[{"step": "bandpass", "low": 0.5}, ...]`.

    Raises:
        UserError: a name or an argument is unknown, or a value makes no sense.

    Example:
        >>> make_steps([{"step": "resample", "rate": 250}])
        (Resample(rate=250),)
    """
    if isinstance(settings, str | Mapping) or not isinstance(settings, Sequence):
        raise UserError(f"ecg transform: steps must be a list of steps, got {settings!r}")
    return tuple(one if isinstance(one, Step) else _make(one) for one in settings)


def _make(setting: Any) -> Step:
    if not isinstance(setting, Mapping) or "step" not in setting:
        raise UserError(f'ecg transform: a step looks like {{"step": "resample", "rate": 100}}, got {setting!r}')
    name = str(setting["step"])
    if name not in STEPS:
        raise UserError(f"ecg transform: no step {name!r}{nearest(name, STEPS)}")
    kind = STEPS[name]
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key, value in setting.items():
        if key != "step" and key not in known:
            raise UserError(f"ecg transform: step {name} has no argument {key!r}{nearest(key, known)}")
        if key not in ("step", "by") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"ecg transform, step {name}: {key} must be a number, got {value!r}")
    return kind(**{key: value for key, value in setting.items() if key != "step"})


def _both_ways(sections: Values, window: Window) -> Values:
    from scipy import signal as dsp

    edge = min(window.values.shape[1] - 1, round(EDGE_SECONDS * window.rate))
    # Even (mirrored) padding: SciPy's default, odd padding, turns one bad sample at the end, as in resampled files,
    # into a slow wave.
    return np.asarray(dsp.sosfiltfilt(sections, window.values, axis=1, padtype="even", padlen=edge))


@lru_cache(maxsize=64)
def _butterworth(order: int, low: float, high: float, rate: float) -> Values:
    from scipy import signal as dsp

    if low <= 0:
        return np.asarray(dsp.butter(order, high, "lowpass", fs=rate, output="sos"))
    if low >= high:
        raise UserError(f"ecg transform: a band of {low:g}..{high:g} Hz is empty at {rate:g} Hz")
    return np.asarray(dsp.butter(order, (low, high), "bandpass", fs=rate, output="sos"))
