"""What a person would measure on a recording, without the heart's numbers."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy import signal as dsp

from modalities.ecg.features.beats import r_peaks
from modalities.ecg.sample import Ecg
from modalities.echo.sample import Echo

BAND = dsp.butter(3, (0.5, 40), "bandpass", fs=100, output="sos")


def volumes(echo: Echo) -> NDArray[np.float64]:
    """The dark cavity's volume in each frame by the area-length formula, 8 A^2 / (3 pi L)."""
    smooth = ndimage.uniform_filter(echo.frames.astype(np.float64), (0, 3, 3))
    found = []
    for frame, raw in zip(smooth, echo.frames, strict=True):
        parts, _ = ndimage.label((frame < 40) & (raw > 0))
        # The ventricle lies about (32, 26); its centre is dark in every frame.
        part = parts == np.bincount(parts[22:31, 30:35].reshape(-1))[1:].argmax() + 1
        rows, columns = np.nonzero(part)
        area, spread = len(rows), np.linalg.eigvalsh(np.cov(np.stack([rows, columns])))
        # A filter of 3 x 3 takes about one pixel from each side of the cavity.
        length, width = 4 * np.sqrt(spread[1]) + 1, 4 * area / (np.pi * 4 * np.sqrt(spread[1])) + 1
        found.append(8 * (np.pi / 4 * length * width) ** 2 / (3 * np.pi * length))
    return np.array(found)


def ejection_fraction(echo: Echo) -> float:
    """In percent, from the largest and the smallest volume."""
    found = volumes(echo)
    return float(100 * (1 - found.min() / found.max()))


def echo_rate(echo: Echo) -> float:
    """Beats a minute, from the volume's autocorrelation between 40 and 140; parabola through its peak."""
    curve = volumes(echo)
    curve -= curve.mean()
    lags = np.arange(len(curve))
    shared = np.correlate(curve, curve, "full")[len(curve) - 1 :] / (len(curve) - lags)
    first, last = int(echo.rate * 60 / 140), int(echo.rate * 60 / 40)
    part = shared[first - 1 : last + 2]
    # The first high peak: two beats fit as well as one.
    peak = first - 1 + int(dsp.find_peaks(part, height=0.6 * part[1:-1].max())[0][0])
    low, middle, high = shared[peak - 1 : peak + 2]
    return float(60 * echo.rate / (peak + (low - high) / (2 * (low - 2 * middle + high))))


def ecg_rate(ecg: Ecg) -> float:
    """Beats a minute, from the R peaks."""
    peaks = r_peaks(ecg.signal, ecg.rate)
    return float(60 * ecg.rate * (len(peaks) - 1) / (peaks[-1] - peaks[0]))


def median_beat(ecg: Ecg) -> tuple[NDArray[np.float64], float]:
    """`(12, 80)` from 0.3 s before R, missing leads 0, and the RR interval in seconds."""
    signal = np.zeros((12, ecg.signal.shape[1]))
    signal[: len(ecg.signal)] = dsp.sosfiltfilt(BAND, ecg.signal, axis=1)
    peaks = r_peaks(signal.astype(np.float32), ecg.rate)
    whole = [peak for peak in peaks if 30 <= peak < signal.shape[1] - 50]
    beat = np.median([signal[:, peak - 30 : peak + 50] for peak in whole], axis=0)
    return beat - np.median(beat, axis=1, keepdims=True), float(np.median(np.diff(peaks))) / ecg.rate


def features(ecg: Ecg) -> NDArray[np.float64]:
    """62 numbers: five of each lead, QRS width, heart rate."""
    beat, interval = median_beat(ecg)
    qrs, middle = beat[:, 18:44], 30 + int(26 * np.sqrt(interval))
    high, low, wave = qrs.max(1), qrs.min(1), beat[:, middle - 5 : middle + 6].mean(1)
    slope = (np.diff(beat, axis=1)[:, 12:50] ** 2).sum(0)
    places = np.arange(len(slope))
    centre = (slope * places).sum() / slope.sum()
    width = np.sqrt((slope * (places - centre) ** 2).sum() / slope.sum())
    span = high - low + 0.05
    return np.concatenate([high, low, wave, np.abs(qrs).sum(1) / span, wave / span, [width, 1 / interval]])
