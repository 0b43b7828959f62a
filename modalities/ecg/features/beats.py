"""Heart beats: R peak detection, and tokens averaged by beat."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmalign.types import Inputs, Tokens

QRS_SECONDS = 0.12
REFRACTORY_SECONDS = 0.3
"""Minimum distance of two beats: 200 per minute."""


def r_peaks(signal: NDArray[np.float32], rate: float) -> NDArray[np.intp]:
    """Detect R peaks: maxima of the summed squared slopes of all leads.

    After Pan and Tompkins (1985): slope, square, moving average over a QRS complex, threshold; here the squared slopes
    of all leads are added, and the threshold is a third of the 98th percentile of the peaks' range.

    Args:
        signal: `(leads, time)`, filtered.
        rate: Samples a second.

    Returns:
        Ascending sample indices, possibly none.
    """
    from scipy import ndimage
    from scipy import signal as dsp

    slope = np.diff(signal, axis=1, prepend=signal[:, :1])
    energy = ndimage.uniform_filter1d((slope.astype(np.float64) ** 2).sum(0), max(1, round(QRS_SECONDS * rate)))
    if not energy.any():
        return np.zeros(0, np.intp)
    height = np.percentile(energy, 98) / 3
    peaks, _ = dsp.find_peaks(energy, height=height, distance=max(1, round(REFRACTORY_SECONDS * rate)))
    return np.asarray(peaks)


def beat_of_each_sample(signal: NDArray[np.float32], time_mask: NDArray[np.bool_], rate: float) -> NDArray[np.int64]:
    """Beat index of each sample: borders are midway between R peaks; -1 where nothing was recorded.

    A recording without R peaks is one beat.

    Returns:
        `(time,)`, from 0 without gaps.

    Example:
        >>> signal = np.zeros((1, 300), np.float32)
        >>> signal[0, [50, 250]] = 1.0
        >>> beats = beat_of_each_sample(signal, np.ones(300, bool), 100.0)
        >>> int(beats[0]), int(beats[-1])
        (0, 1)
    """
    peaks = r_peaks(signal, rate)
    borders = (peaks[1:] + peaks[:-1]) / 2
    beats = np.searchsorted(borders, np.arange(len(time_mask)), side="right")
    _, numbers = np.unique(beats[time_mask], return_inverse=True)  # a beat may be within a gap
    result = np.full(len(time_mask), -1, np.int64)
    result[time_mask] = numbers
    return result


def beat_tokens(tokens: Tokens, inputs: Inputs, stride: int) -> Tokens:
    """Mean of the tokens of each beat, weighted by their overlap in time.

    Args:
        tokens: `(batch, rows * steps, width)`: `rows` times the same segments in time, each `stride` samples long.
        inputs: With `beat_of (batch, time)` and `beat_mask (batch, beats)`.
        stride: Samples per segment.

    Returns:
        `(batch, beats, width)`.
    """
    beat_of, beat_mask = inputs["beat_of"], inputs["beat_mask"]
    steps = -(-beat_of.shape[1] // stride)
    # One-hot over time (-1 = no beat), summed within segments.
    beats = torch.arange(beat_mask.shape[1], device=beat_of.device)
    share = (beat_of[..., None] == beats).to(tokens.values.dtype)
    share = F.pad(share, (0, 0, 0, steps * stride - share.shape[1]))
    share = torch.unflatten(share, 1, (steps, stride)).sum(2)
    rows = tokens.values.shape[1] // steps
    weight = share.repeat(1, rows, 1) * tokens.mask.unsqueeze(-1)  # (batch, tokens, beats)
    total = weight.sum(1)
    values: Tensor = torch.einsum("btn,btw->bnw", weight, tokens.values) / total.clamp(min=1e-6).unsqueeze(-1)
    return Tokens(values, beat_mask & (total > 0))
