"""Hand-crafted ECG features: median beat, waves, RR intervals, band power."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.ecg.features.beats import r_peaks
from modalities.ecg.sample import LEADS

Values = NDArray[np.float64]

STEP = 0.01  # seconds between two points of the median beat
BEFORE, AFTER = 25, 45  # points before and after the R peak: 0.25 s include the P wave, 0.45 s most of the T wave
REFINED = 0.06  # seconds: the R peak is refined to the maximum amplitude of all leads within this distance
TAILS = (0.05, 0.1, 0.25)
"""Fractions of the total slope before and after the QRS complex; a single threshold would be unstable."""
QUIET = 0.1
"""Fraction of the steepest slope below which slopes count as noise, P or T waves."""
FINE = 500.0  # samples per second for peak detection: 10 ms would be half of a steep slope
BANDS = ((0.5, 2), (2, 4), (4, 7), (7, 12), (12, 20), (20, 30))  # Hz; higher bands depend on the sampling rate

FAMILIES = {"beat": 30, "waves": 9, "power": len(BANDS)}
"""Features of a lead, by family."""
LEAD = sum(FAMILIES.values())
WHOLE = 17
"""Features of the whole recording."""


def median_beat(signal: Values, rate: float) -> tuple[Values, Values, Values]:
    """Median beat: beats aligned at R peaks, minus the level before the QRS complex.

    Args:
        signal: `(leads, time)` in millivolt.
        rate: Samples a second.

    Returns:
        The beat `(leads, 70)`, a point every 10 ms from 250 ms before the R peak on; the beats' mean absolute
        deviation from it, by lead; and the times of all R peaks in seconds. Without a whole beat, NaN.
    """
    from scipy import signal as dsp

    rough = r_peaks(signal.astype(np.float32), rate) / rate
    if rate != FINE:
        ratio = Fraction(FINE / rate).limit_denominator(5000)
        signal, rate = dsp.resample_poly(signal, ratio.numerator, ratio.denominator, axis=1, padtype="line"), FINE
    size, reach = np.sqrt((signal**2).sum(0)), max(1, round(REFINED * rate))
    starts = [max(0, round(time * rate) - reach) for time in rough]
    peaks = np.unique([start + int(np.argmax(size[start : start + 2 * reach + 1])) for start in starts]).astype(np.intp)
    offsets = np.round(np.arange(-BEFORE, AFTER) * STEP * rate).astype(np.intp)
    whole = peaks[(peaks + offsets[0] >= 0) & (peaks + offsets[-1] < signal.shape[1])]
    if not len(whole):
        return np.full((len(signal), len(offsets)), np.nan), np.full(len(signal), np.nan), peaks / rate
    beats = signal[:, whole[:, None] + offsets]  # (leads, beats, points)
    beats = beats - np.median(beats[..., 10:18], axis=2, keepdims=True)
    beat = np.median(beats, axis=1)
    return beat, np.abs(beats - beat[:, None]).mean((1, 2)), peaks / rate


def measure(signal: NDArray[Any], there: NDArray[np.bool_], rate: float) -> tuple[Values, Values]:
    """All features of one recording; NaN where a lead is missing or no beat was found.

    Args:
        signal: `(12, time)` in millivolt, leads in the standard order.
        there: `(12,)`, True = the lead was recorded.
        rate: Samples a second.

    Returns:
        By lead `(12, 45)`: the beat in 10 ms through the QRS complex and 50 ms elsewhere (millivolt); largest and
        smallest value of the QRS complex, their difference, ST level, largest and smallest value of the T wave, areas
        above and below zero, size of the P wave; log power in bands. Of the whole `(17,)`: QRS width in three
        ways and steepness, the sums of Sokolow-Lyon and Cornell, four single amplitudes, RR intervals (mean,
        deviation, differences, shortest to median), beat-to-beat deviation, cosine and sine of the axis.
    """
    signal = np.where(there[:, None], signal, 0.0).astype(np.float64)
    beat, spread, peaks = median_beat(signal, rate)
    qrs, t_wave = beat[:, 20:33], beat[:, 40:]
    coarse = beat[:, 35:].reshape(len(beat), -1, 5).mean(2), beat[:, :15].reshape(len(beat), -1, 5).mean(2)
    high, low = qrs.max(1), qrs.min(1)
    areas = qrs.clip(0).sum(1) * STEP * 10, qrs.clip(max=0).sum(1) * STEP * 10
    waves = [high, low, high - low, beat[:, 33:38].mean(1), t_wave.max(1), t_wave.min(1), *areas]
    waves.append(np.abs(beat[:, 5:17]).max(1))
    leads = np.concatenate([beat[:, 15:35], *coarse, np.stack(waves, 1), _power(signal, rate)], axis=1)
    leads[~there] = np.nan
    voltages = _voltages(np.where(there, high, np.nan), np.where(there, -low, np.nan))
    rest = [spread[there].mean(), *_axis(qrs.sum(1), there)]
    return leads, np.array([*_width(beat), *voltages, *_rhythm(peaks), *rest])


def _power(signal: Values, rate: float) -> Values:
    from scipy import signal as dsp

    frequency, density = dsp.welch(signal, rate, nperseg=min(256, signal.shape[1]))
    rows = [density[:, (frequency >= low) & (frequency < high)].sum(1) for low, high in BANDS]
    return np.asarray(np.log(np.stack(rows, 1) + 1e-6))


def _width(beat: Values) -> list[float]:
    """Durations with 90, 80 and 50 % of the steep slopes, in seconds; and the sum of all slopes."""
    slope = np.abs(np.diff(beat, axis=1)).sum(0)[15:40]
    steep = (slope - QUIET * slope.max()).clip(0)
    if not steep.sum() > 0:  # False for NaN
        return [np.nan] * 4
    passed = np.concatenate([[0.0], np.cumsum(steep)]) / steep.sum()
    grid = np.arange(len(passed)) * STEP
    tails = [np.interp([tail, 1 - tail], passed, grid) for tail in TAILS]
    return [*(float(end - start) for start, end in tails), float(slope.sum())]


def _voltages(r: Values, s: Values) -> list[float]:
    i, iii, avl, v1, v3, v5, v6 = (LEADS.index(name) for name in ("I", "III", "aVL", "V1", "V3", "V5", "V6"))
    return [s[v1] + np.maximum(r[v5], r[v6]), r[avl] + s[v3], r[v1], s[v5], r[i], s[iii]]


def _rhythm(peaks: Values) -> list[float]:
    intervals = np.diff(peaks)
    if len(intervals) < 2:
        return [np.nan] * 4
    shortest = intervals.min() / np.median(intervals)
    return [intervals.mean(), intervals.std(), np.abs(np.diff(intervals)).mean(), shortest]


def _axis(net: Values, there: NDArray[np.bool_]) -> list[float]:
    i, avf = LEADS.index("I"), LEADS.index("aVF")
    if not (there[i] and there[avf]):
        return [np.nan, np.nan]
    angle = np.arctan2(net[avf], net[i])
    return [float(np.cos(angle)), float(np.sin(angle))]
