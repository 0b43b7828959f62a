"""What is wrong with leads and units is named, and nothing is named without need."""

from itertools import combinations

import numpy as np
import pytest

from mmalign.errors import BadSample
from modalities.ecg import MODALITY
from modalities.ecg.formats.lead_checks import find_faults
from modalities.ecg.formats.leads import LIMB, LIMB_WEIGHTS
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


def limb_leads(seed: int, *factors: float) -> np.ndarray:
    """Consistent limb leads of two random ones, `(6, 200)`."""
    rng = np.random.default_rng(seed)
    return np.asarray(LIMB_WEIGHTS @ (rng.normal(size=(2, 200)) * np.array(factors)[:, None]))


def test_a_flat_lead_takes_no_part_in_the_check_of_the_order() -> None:
    """A zero line that was recorded breaks Einthoven's law; one that was not leaves no time point for the others."""
    signal, everywhere = limb_leads(0, 1.0, 1.0), np.ones((6, 200), bool)
    flat = signal.copy()
    flat[2] = 0.0
    assert find_faults(flat, everywhere, LIMB) == ["lead III is flat or empty"]
    swapped, recorded = signal[[0, 1, 2, 3, 5, 4]], everywhere.copy()
    recorded[2] = False
    assert "aVL and aVF look swapped" in find_faults(swapped, recorded, LIMB)[1]


def test_a_cause_is_named_alone_where_it_explains_much_more_than_others() -> None:
    """With I nearly flat, exchanging aVR and aVL also comes within the tolerance, but far from the inversion of I."""
    signal = limb_leads(63, 0.16, 0.66)
    signal[0] *= -1
    assert find_faults(signal, np.ones((6, 200), bool), LIMB) == ["I looks inverted"]
