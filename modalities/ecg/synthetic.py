"""Synthetic ECGs: ECGSYN's waves as a moving dipole, projected onto twelve leads."""

import numpy as np
from numpy.typing import NDArray

from modalities.common.sources.toy_classes import colour_and_shape
from modalities.ecg.formats.leads import LIMB_WEIGHTS
from modalities.ecg.sample import LEADS, Ecg

RATE, SECONDS = 100.0, 10.0

WAVES = {
    # centre (radians), width (radians), dipole x (to the left), y (to the feet), z (to the back), in mV
    "P": (-1.22, 0.25, (0.08, 0.14, -0.02)),
    "Q": (-0.16, 0.09, (-0.12, -0.04, 0.22)),
    "R": (0.00, 0.11, (1.10, 0.95, 0.25)),
    "S": (0.18, 0.10, (-0.25, -0.20, 0.55)),
    "T": (1.60, 0.42, (0.28, 0.22, -0.12)),
}
"""The five waves of McSharry et al. 2003 (IEEE TBME 50(3)), each with a direction as in Sameni et al. 2007."""

DOWER = np.array(
    [
        [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
    ]
)  # fmt: skip
"""From the dipole to I, II and V1 to V6 (Dower et al. 1980)."""

KINDS = tuple(
    {"rate": rate, "amplitude": amplitude, "qrs": qrs, "st": st}
    for rate in (58.0, 108.0)
    for amplitude, qrs, st in ((1.0, 1.0, 0.0), (0.45, 1.0, 0.0), (1.0, 2.1, 0.0), (1.0, 1.0, 0.25), (1.0, 1.0, -0.25))
)
"""Ten hearts: slow or fast, each normal, with low voltage, wide QRS, ST elevation or ST depression (mV along x)."""


def synthetic_ecg(label: int, rng: np.random.Generator) -> Ecg:
    """Generate ten seconds of one kind of heart at 100 Hz, all twelve leads.

    The closed form of ECGSYN: a sum of Gaussians of the phase within the beat,
    `z(t) = sum_i a_i exp(-(theta(t) - theta_i)^2 / (2 b_i^2))`, with RR intervals that vary, here once for each of
    the dipole's three axes. Limb leads obey Einthoven by construction.

    Args:
        label: 0..9, see `KINDS`.
        rng: Source of all randomness.
    """
    colour_and_shape(label)  # rejects unknown classes
    kind = KINDS[label]
    dipole = _dipole(kind, rng) * kind["amplitude"] * rng.uniform(0.85, 1.15)
    dipole = _turned(rng.normal(0, 0.12, 3)) @ dipole
    eight = DOWER @ dipole
    time = np.arange(dipole.shape[1]) / RATE
    wander = rng.uniform(0, 0.05, (8, 1)) * np.sin(2 * np.pi * (rng.uniform(0.15, 0.35) * time + rng.random((8, 1))))
    eight = eight + wander + rng.normal(0, 0.012, eight.shape)
    signal = np.concatenate([LIMB_WEIGHTS @ eight[:2], eight[2:]]).astype(np.float32)
    return Ecg(signal, RATE, LEADS, np.ones(signal.shape, bool))


def _dipole(kind: dict[str, float], rng: np.random.Generator) -> NDArray[np.float64]:
    """`(3, time)` in mV."""
    samples = round(RATE * SECONDS)
    seconds = 60.0 / (kind["rate"] * rng.uniform(0.9, 1.1))
    intervals = seconds * (1 + rng.normal(0, 0.03, 2 * round(SECONDS / seconds) + 8)).clip(0.7, 1.3)
    edges = np.concatenate([[0.0], np.cumsum(intervals)]) - rng.uniform(0, seconds)
    time = np.arange(samples) / RATE
    beat = np.searchsorted(edges, time, side="right") - 1
    length = intervals[beat]
    phase = 2 * np.pi * (time - edges[beat]) / length - np.pi
    # QRS duration does not scale with heart rate: widths are those at one beat per second.
    stretch = 1.0 / length
    total = np.zeros((3, samples))
    for name, (centre, width, direction) in WAVES.items():
        quick = name in "QRS"
        factor = stretch * kind["qrs"] if quick else np.sqrt(stretch)
        amplitude = np.array(direction) / (kind["qrs"] ** 0.3 if quick else 1.0)
        total += amplitude[:, None] * np.exp(-(((phase - centre * factor) / (width * factor)) ** 2) / 2)
    plateau = np.exp(-((np.abs(phase - 0.75 * np.sqrt(stretch)) / (0.45 * np.sqrt(stretch))) ** 4))  # S to T
    return total + kind["st"] * np.array([[1.0], [0.6], [-0.5]]) * plateau


def _turned(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Small random rotation of the heart's axes."""
    x, y, z = angles
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    q, _ = np.linalg.qr(np.eye(3) + cross)
    return np.asarray(q * np.sign(np.diag(q)))
