"""The ECG of a simulated heart."""

import numpy as np
from numpy.typing import NDArray

from modalities.ecg.formats.leads import LIMB_WEIGHTS
from modalities.ecg.sample import LEADS, Ecg
from modalities.ecg.synthetic import DOWER
from modalities.heart.simulator.heart import Heart, beat_times

RATE, SECONDS = 100.0, 10.0

USUAL_PR = 0.15
"""Seconds from the middle of P to R."""

Wave = tuple[float, float, tuple[float, float, float]]
"""Centre and width in seconds, and the dipole in mV: to the left, to the feet, to the back."""


def waves_of(heart: Heart, delay: float) -> list[Wave]:
    """The waves of one beat, about its R.

    Args:
        heart: The heart.
        delay: Additional PR interval in seconds (AV block).
    """
    q, v, back = heart.width, heart.voltage, heart.progression
    root = np.sqrt(60 / heart.rate)  # QT correction by heart rate (Bazett 1920)
    p: Wave = (-USUAL_PR - delay, 0.035, (0.07, 0.12, -0.02))
    if heart.conduction == "left bundle branch block":
        # No septal q, a broad notched R to the left and to the back, T against it.
        width = 1.35 + 0.35 * q
        t = 0.25 * v * (0.5 + 0.5 * abs(heart.repolarisation))
        return [
            p,
            (-0.022 * width, 0.016 * width, (0.55 * v, 0.30 * v, 0.30 + back / 2)),
            (0.022 * width, 0.018 * width, (0.70 * v, 0.25 * v, 0.45 + back / 2)),
            (0.29 * root, 0.065 * root, (-t, -0.5 * t, -0.8 * t)),
        ]
    t = heart.repolarisation
    return [
        p,
        (-0.025 * q, 0.012 * q, (-0.14, -0.05, -0.20 + back / 2)),
        (0.0, 0.0165 * q, (1.05 * v, 0.85 * v, 0.15 + back)),
        (0.030 * q, 0.015 * q, (-0.25, -0.20, 0.45 + back / 2)),
        (0.26 * root, 0.062 * root, (0.30 * t, 0.20 * t, -0.15 - 0.05 * t)),
    ]


def ecg_of(heart: Heart) -> Ecg:
    """Generate ten seconds at 100 Hz, deterministic.

    The closed form of ECGSYN (McSharry et al. 2003, IEEE TBME 50(3)), whose waves are Gaussians of the angle within a
    beat, written in time: `z(t) = sum over beats k and waves i of a_i exp(-(t - t_k - m_i)^2 / (2 b_i^2))` for each of
    the dipole's three axes (Sameni et al. 2007), projected onto twelve leads by Dower's matrix. A poor-quality ECG has
    strong noise, or only the six limb leads.

    Example:
        >>> from modalities.heart.simulator.heart import draw_heart
        >>> ecg_of(draw_heart(0, 0, poor=0.0)).signal.shape
        (12, 1000)
    """
    from scipy import ndimage

    rng = heart.stream("ecg")
    time = np.arange(round(RATE * SECONDS)) / RATE
    beats = beat_times(heart.rate, SECONDS, rng)
    delay = rng.uniform(0.10, 0.16) if heart.conduction == "first-degree AV block" else 0.0
    dipole = np.zeros((3, len(time)))
    for centre, width, direction in waves_of(heart, delay):
        shape = np.exp(-(((time - beats[:, None] - centre) / width) ** 2) / 2).sum(0)
        dipole += np.array(direction)[:, None] * shape
    eight = DOWER @ _turned(rng.normal(0, 0.12, 3)) @ dipole
    eight *= heart.gain * np.exp(rng.normal(0, 0.05, (8, 1)))  # variation of electrode gain
    drift = np.sin(2 * np.pi * (rng.uniform(0.1, 0.4, (8, 1)) * time + rng.random((8, 1))))
    # Half of the noise is that of muscles and motion: smooth over some 50 ms, where a T wave is too.
    white, smooth = rng.normal(0, 1, (2, 8, len(time)))
    smooth = ndimage.gaussian_filter1d(smooth, 2.0) * 2.66  # of unit variance again
    eight += heart.noise * (np.sqrt(0.5) * (white + smooth) + 2 * drift * rng.random((8, 1)))
    leads = len(LIMB_WEIGHTS) if heart.poor == "leads" else len(LEADS)
    signal = np.concatenate([LIMB_WEIGHTS @ eight[:2], eight[2:]])[:leads].astype(np.float32)
    return Ecg(signal, RATE, LEADS[:leads], np.ones(signal.shape, bool))


def _turned(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Individual orientation of the heart: a small rotation (Cayley transform)."""
    x, y, z = angles / 2
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.linalg.solve(np.eye(3) - cross, np.eye(3) + cross))
