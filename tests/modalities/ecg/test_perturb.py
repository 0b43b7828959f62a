"""Perturbed recordings: frequency and amplitude of the wander, deviation of the noise, leads, gain, validity."""

import numpy as np
import pytest

from modalities.ecg.perturb import PERTURBATIONS, WANDER_HZ, perturb_ecg
from modalities.ecg.sample import LEADS, Ecg


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def recording(level: float = 1.0) -> Ecg:
    """Twenty seconds at 100 Hz; lead V6 is not recorded, and the last second of lead I."""
    valid = np.ones((12, 2000), bool)
    valid[11], valid[0, 1900:] = False, False
    return Ecg(np.where(valid, level, 0).astype(np.float32), 100.0, LEADS, valid)


def test_wander_is_one_slow_sine_of_its_amplitude() -> None:
    change = perturb_ecg(recording(), "wander", 0.2, rng()).signal[1:11] - 1
    np.testing.assert_allclose(abs(change).max(axis=1), 0.2, atol=0.005)
    power = abs(np.fft.rfft(change * np.hanning(2000), axis=1)) ** 2
    hertz = np.fft.rfftfreq(2000, 1 / 100)
    assert power[:, hertz > WANDER_HZ[1] + 0.15].sum() < 1e-4 * power.sum()


def test_noise_has_its_deviation() -> None:
    change = perturb_ecg(recording(), "noise", 0.05, rng()).signal[1:11] - 1
    np.testing.assert_allclose(change.std(axis=1), 0.05, rtol=0.1)
    assert abs(np.corrcoef(change) - np.eye(10)).max() < 0.1


@pytest.mark.parametrize(("level", "dropped"), [(0.1, 1), (0.25, 3), (0.5, 6), (0.75, 8), (1.0, 10)])
def test_leads_with_signal_are_dropped_and_one_remains(level: float, dropped: int) -> None:
    changed = perturb_ecg(recording(), "dropped_leads", level, rng())
    assert 11 - changed.valid.any(axis=1).sum() == dropped
    kept = changed.valid.any(axis=1)
    np.testing.assert_array_equal(changed.valid[kept], recording().valid[kept])


def test_gain_multiplies_or_divides() -> None:
    found = {round(float(perturb_ecg(recording(3.0), "gain", 1.5, rng(seed)).signal.max()), 5) for seed in range(9)}
    assert found == {2.0, 4.5}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_invalid_samples_stay_zero(name: str) -> None:
    before, changed = recording(), perturb_ecg(recording(), name, PERTURBATIONS[name][-1], rng())
    assert not changed.signal[~changed.valid].any()
    assert not changed.valid[~before.valid].any()
    assert (changed.signal.dtype, changed.rate, changed.leads) == (np.float32, 100.0, LEADS)
