"""Perturbations of recordings for robustness: baseline wander, noise, dropped leads, gain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modalities.ecg.sample import Ecg

PERTURBATIONS: Mapping[str, Sequence[float]] = {
    "wander": (0.05, 0.1, 0.2, 0.5),
    "noise": (0.02, 0.05, 0.1, 0.2),
    "dropped_leads": (0.1, 0.25, 0.5, 0.75),
    "gain": (1.1, 1.25, 1.5, 2.0),
}
"""Levels, weakest first: amplitude of the wander in mV, standard deviation of Gaussian noise in mV, fraction of the
leads that are dropped, factor of the voltage (or its reciprocal, at random)."""

WANDER_HZ = (0.05, 0.5)
"""Frequencies of baseline wander: breathing and movement."""


def perturb_ecg(sample: Ecg, name: str, level: float, rng: np.random.Generator) -> Ecg:
    """Perturb a recording; what is not valid stays so, and stays 0.

    Args:
        sample: The recording; not modified.
        name: One of `PERTURBATIONS`.
        level: In the unit that `PERTURBATIONS` states. Of dropped leads, at least one lead with signal remains.
        rng: Source of all randomness.

    Example:
        >>> ecg = Ecg(np.ones((1, 500), np.float32), 500.0, ("II",), np.ones((1, 500), bool))
        >>> float(perturb_ecg(ecg, "gain", 2.0, np.random.default_rng(0)).signal.max()) in (0.5, 2.0)
        True
    """
    signal, valid = sample.signal.astype(np.float64), sample.valid
    leads = len(signal)
    if name == "wander":
        seconds = np.arange(signal.shape[1]) / sample.rate
        hertz, phase = rng.uniform(*WANDER_HZ), rng.uniform(0, 2 * np.pi, (leads, 1))
        signal = signal + level * np.sin(2 * np.pi * hertz * seconds + phase)
    elif name == "noise":
        signal = signal + level * rng.standard_normal(signal.shape)
    elif name == "dropped_leads":
        recorded = rng.permutation(np.flatnonzero(valid.any(axis=1)))
        valid = valid.copy()
        valid[recorded[: min(round(level * len(recorded)), len(recorded) - 1)]] = False
    else:
        signal = signal * level ** float(rng.choice((-1, 1)))
    return replace(sample, signal=np.where(valid, signal, 0.0).astype(np.float32), valid=valid)
