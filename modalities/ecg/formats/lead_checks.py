"""Plausibility checks of a recording: Einthoven's and Goldberger's equations, voltage range, likely causes."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from modalities.ecg.formats.leads import LIMB, LIMB_WEIGHTS

LARGEST = 20.0
"""Maximum plausible surface voltage in millivolts; more indicates another unit."""

SMALLEST = 0.02
"""Millivolts; a recording within this range was most likely written in volts."""

TOLERANCE = 0.15
"""Tolerated residual of Einthoven's and Goldberger's equations, as a fraction of the signal."""

FLOOR = 0.02
"""The same in millivolts: quantisation of coarse files."""

_POINTS = 5000  # maximum number of time points that are checked


def find_faults(signal: NDArray[np.float64], valid: NDArray[np.bool_], leads: Sequence[str]) -> list[str]:
    """Check the unit, the order and the polarity of the limb leads; returns descriptions of faults.

    Residuals are those of `III = II - I`, `aVR = -(I + II) / 2`, `aVL = I - II / 2` and `aVF = II - I / 2`. When they
    do not vanish, each exchange of two leads and each inversion of one is tried, and the one that explains the
    recording is reported. Misplaced electrodes satisfy the equations and are not detected.

    Args:
        signal: Millivolts, `(leads, time)`.
        valid: `(leads, time)`.
        leads: Standard names.

    Returns:
        Sentences without a full stop; none for a good recording.

    Example:
        >>> from modalities.ecg.formats.leads import LIMB, LIMB_WEIGHTS
        >>> signal = LIMB_WEIGHTS @ np.random.default_rng(0).normal(size=(2, 100))
        >>> find_faults(signal[[0, 1, 2, 3, 5, 4]], np.ones((6, 100), bool), LIMB)
        ['aVL and aVF look swapped']
    """
    flat = [lead for lead, row, real in zip(leads, signal, valid, strict=True) if not real.any() or not row.any()]
    faults = [f"lead {lead} is flat or empty" for lead in flat]
    if not valid.any():
        return faults
    peak = float(np.abs(signal, where=valid, out=np.zeros_like(signal)).max())
    if peak > LARGEST:
        faults.append(f"values reach {peak:.4g} mV: the unit looks like \u00b5V or raw ADC counts, not mV")
    elif peak < SMALLEST:
        faults.append(f"values stay below {SMALLEST} mV: the unit looks like V, not mV")
    return faults + _order(signal, valid, [lead for lead in leads if lead not in flat], leads)


def _order(
    signal: NDArray[np.float64], valid: NDArray[np.bool_], usable: Sequence[str], leads: Sequence[str]
) -> list[str]:
    names = [lead for lead in LIMB if lead in usable]
    if len(names) < 3:
        return []  # any two limb leads are consistent
    rows = [list(leads).index(lead) for lead in names]
    together = signal[rows][:, valid[rows].all(0)]
    if together.shape[1] < 2:
        return []
    together = together[:, :: max(1, together.shape[1] // _POINTS)]
    together = together - together.mean(1, keepdims=True)  # an offset between amplifiers is not a wrong lead
    covariance = together @ together.T / together.shape[1]
    weights = LIMB_WEIGHTS[[LIMB.index(lead) for lead in names]]
    size = float(np.sqrt(np.trace(covariance) / len(names)))
    allowed = max(TOLERANCE * size, FLOOR)
    residual = _residual(covariance, weights)
    if residual <= allowed:
        return []
    tried = sorted((_residual(change @ covariance @ change.T, weights), words) for words, change in _changes(names))
    # With three leads several single faults are indistinguishable: all that explain the recording are reported.
    likely = [words for left, words in tried if left <= max(0.1 * residual, 2 * tried[0][0]) and left <= allowed]
    if likely:
        return [" or ".join(likely[:3])]
    return [f"the limb leads {', '.join(names)} do not obey Einthoven's law: residual {residual:.3g} mV"]


def _residual(covariance: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Root mean square residual of one lead outside the plane spanned by I and II."""
    basis, _ = np.linalg.qr(weights)
    outside = np.eye(len(weights)) - basis @ basis.T
    return float(np.sqrt(max(np.trace(outside @ covariance), 0.0) / len(weights)))


def _changes(names: Sequence[str]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each single fault as text, and the matrix that reverts it."""
    identity = np.eye(len(names))
    for index, lead in enumerate(names):
        change = identity.copy()
        change[index, index] = -1
        yield f"{lead} looks inverted", change
    for one, two in combinations(range(len(names)), 2):
        change = identity.copy()
        change[[one, two]] = change[[two, one]]
        yield f"{names[one]} and {names[two]} look swapped", change
