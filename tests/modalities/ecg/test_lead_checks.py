"""What is wrong with leads and units is named, and nothing is named without need."""

from itertools import combinations

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.ecg import MODALITY
from modalities.ecg.formats.leads import LIMB
from modalities.ecg.modality import EcgModality
from modalities.ecg.read import read_ecg
from modalities.ecg.sample import LEADS


def given(signal: np.ndarray, units: str = "mV", leads: tuple[str, ...] = LEADS) -> dict[str, object]:
    return {"signal": signal, "rate": 250, "units": units, "leads": leads}


@pytest.mark.parametrize("pair", list(combinations(range(6), 2)))
def test_each_swap_of_two_limb_leads_is_named(
    pair: tuple[int, int], signal: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = signal.copy()
    wrong[list(pair)] = signal[list(pair[::-1])]
    words = f"{LIMB[pair[0]]} and {LIMB[pair[1]]} look swapped"
    assert words in read_ecg(given(wrong)).faults
    assert words in caplog.text
    with pytest.raises(BadSample, match=words):
        EcgModality(strict=True).read(given(wrong))


@pytest.mark.parametrize("lead", range(6))
def test_each_inversion_is_named(lead: int, signal: np.ndarray) -> None:
    wrong = signal.copy()
    wrong[lead] *= -1
    assert read_ecg(given(wrong)).faults == (f"{LIMB[lead]} looks inverted",)


def test_with_three_leads_each_explanation_is_named(signal: np.ndarray) -> None:
    (fault,) = read_ecg(given(signal[:3] * [[1], [1], [-1]], leads=LEADS[:3])).faults
    assert "III looks inverted" in fault
    assert " or " in fault


def test_several_faults_give_no_single_cause(signal: np.ndarray) -> None:
    wrong = signal.copy()
    wrong[:6] = np.roll(signal[:6], 1, axis=1) * np.arange(1, 7)[:, None]
    (fault,) = read_ecg(given(wrong)).faults
    assert "Einthoven" in fault


@pytest.mark.parametrize("unit", ["uV", "mV", "V"])
def test_the_unit_is_judged_by_size(unit: str, signal: np.ndarray) -> None:
    factor = {"uV": 1e3, "mV": 1.0, "V": 1e-3}[unit]
    assert not read_ecg(given(signal * factor, unit)).faults
    faults = " ".join(read_ecg(given(signal * factor)).faults)
    assert ("µV or raw ADC" in faults) == (unit == "uV")
    assert ("looks like V" in faults) == (unit == "V")


@pytest.mark.parametrize("seed", range(10))
def test_noise_coarse_steps_and_offsets_are_no_fault(seed: int, signal: np.ndarray) -> None:
    rng = np.random.default_rng(seed)
    noisy = signal + rng.normal(0, 0.02, signal.shape) + rng.normal(0, 0.5, (12, 1))
    assert not read_ecg(given(np.round(noisy / 0.01) * 0.01)).faults
    assert not read_ecg(MODALITY.toy_sample(seed, rng)).faults


def test_a_gap_in_one_limb_lead_is_no_fault(signal: np.ndarray) -> None:
    gap = signal.copy()
    gap[2, 200:700] = np.nan
    assert not read_ecg(given(gap)).faults
