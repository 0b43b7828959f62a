"""Parameters of a simulated heart, from which its ECG, echo and report are generated."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalities.heart.simulator.ejection_fraction import class_of

CONDUCTIONS = ("normal conduction", "left bundle branch block", "first-degree AV block")
"""Conduction: normal, delayed to the left ventricle (wide QRS), or delayed to both ventricles (long PR)."""

POOR = ("noise", "leads")
"""Defects of an ECG: muscle and motion noise, or missing chest leads."""

STREAMS = ("heart", "ecg", "echo", "report")


@dataclass(frozen=True)
class Heart:
    """Parameters of one heart and its recordings.

    Args:
        ejection_fraction: Ejected fraction of the end-diastolic volume, percent, 15..75.
        rate: Beats per minute, 45..130.
        conduction: One of `CONDUCTIONS`.
        width: QRS duration relative to normal, without bundle branch block.
        voltage: R wave amplitude relative to normal.
        progression: Posterior component of the R wave, mV: above 0, poor R wave progression from V1 to V4.
        repolarisation: T wave amplitude relative to normal; below 0 it is inverted in the lateral leads.
        size: Length of the end-diastolic ventricle relative to normal.
        angle: Tilt of the echo's probe, radians.
        gain: Gain of the electrodes.
        noise: Noise of the ECG, mV.
        poor: Defect of the ECG, one of `POOR`; "" for most hearts.
        seed: Seed of its recordings.
    """

    ejection_fraction: float
    rate: float
    conduction: str
    width: float
    voltage: float
    progression: float
    repolarisation: float
    size: float
    angle: float
    gain: float
    noise: float
    poor: str
    seed: tuple[int, int]

    @property
    def ejection_class(self) -> str:
        """Class of the ejection fraction."""
        return class_of(self.ejection_fraction)

    def stream(self, name: str) -> np.random.Generator:
        """Random generator of one recording, independent of the other recordings."""
        return np.random.default_rng([*self.seed, STREAMS.index(name)])


def draw_heart(seed: int, index: int, *, ecg_noise: float = 1.0, poor: float = 0.12) -> Heart:
    """Heart number `index` of a seed.

    The ejection fraction is uniform; the other parameters are correlated with it, as in patients: with
    `s = (60 - EF) / 45`, a low ejection fraction is associated with a wider QRS (Murkofsky et al. 1998), lower voltage,
    poor R wave progression (Zema et al. 1979), flat or inverted lateral T waves, a faster rate, bundle branch block and
    a larger ventricle. Each sign has independent noise, so that the ECG predicts the ejection fraction only partly;
    effect sizes are chosen, not fitted to patients.

    Args:
        seed: Seed of the hearts.
        index: From 0.
        ecg_noise: Factor of the ECG's noise.
        poor: Fraction of hearts with a poor-quality ECG.

    Example:
        >>> heart = draw_heart(0, 1)
        >>> heart == draw_heart(0, 1), 15 <= heart.ejection_fraction <= 75
        (True, True)
    """
    rng = np.random.default_rng([seed, index, 0])
    fraction = rng.uniform(15, 75)
    weak = (60 - fraction) / 45
    scatter = rng.normal(0, 1, 6)
    block = 0.12 + 0.15 * max(weak, 0.0)
    conduction = CONDUCTIONS[int(rng.choice(3, p=[0.85 - block, block, 0.15]))]
    size, angle, gain = rng.normal(0, 1, 3)
    level = np.exp(rng.uniform(np.log(0.01), np.log(0.08)))
    wanting = rng.random() < poor
    kind = POOR[int(rng.integers(2))] if wanting else ""
    if kind == "noise":
        level = rng.uniform(0.2, 0.5)
    return Heart(
        ejection_fraction=float(fraction),
        rate=float(np.clip(72 + 12 * weak + 15 * scatter[0], 45, 130)),
        conduction=conduction,
        width=float(np.clip(1 + 0.35 * weak + 0.08 * scatter[1], 0.75, 1.8)),
        voltage=float(np.exp(-0.35 * weak + 0.12 * scatter[2])),
        progression=float(0.25 * weak + 0.09 * scatter[3]),
        repolarisation=float(1 - 1.1 * weak + 0.25 * scatter[4]),
        size=float(np.clip(1 + 0.06 * weak + 0.06 * size, 0.82, 1.2)),
        angle=float(np.clip(0.12 * angle, -0.3, 0.3)),
        gain=float(np.exp(0.1 * gain)),
        noise=float(ecg_noise * level),
        poor=kind,
        seed=(seed, index),
    )


def beat_times(rate: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Times of the R waves in seconds, ascending, from before 0 to after `seconds`, at this mean rate.

    Intervals vary by 3 % about the mean (2 % respiratory, the rest random), at a random phase.
    """
    interval = 60 / rate
    count = int(seconds / interval) + 8
    breath = 0.02 * np.sqrt(2) * np.sin(2 * np.pi * (0.25 * interval * np.arange(count) + rng.random()))
    intervals = interval * (1 + breath + 0.02 * rng.normal(0, 1, count).clip(-3, 3))
    return np.asarray(np.cumsum(intervals) - interval * (3 + rng.random()))
