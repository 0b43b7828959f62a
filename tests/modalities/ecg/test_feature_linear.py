"""Measures are those that were put into a made-up beat, and what cannot be measured changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from modalities.ecg import MODALITY
from modalities.ecg.encoders.feature_linear import MeasuredTransform
from modalities.ecg.features.ecg_features import FAMILIES, measure, median_beat
from modalities.ecg.read import read_ecg
from modalities.ecg.sample import LEADS, Ecg

RATE = 100.0
ALL = np.ones(12, bool)


def beats(interval: float = 0.8, *, rate: float = RATE, height: float = 1.0) -> np.ndarray:
    """Ten seconds of narrow R waves, higher from lead to lead, ST raised by 0.2 mV in V2, aVL upside down."""
    time = np.arange(round(10 * rate)) / rate
    phase = (time - 0.4 + interval / 2) % interval - interval / 2
    wave = np.exp(-((phase / 0.015) ** 2) / 2)
    signal = height * np.linspace(0.5, 1.5, 12)[:, None] * wave
    signal[LEADS.index("aVL")] *= -1
    signal[LEADS.index("V2")] += 0.2 * ((phase > 0.07) & (phase < 0.15))
    return signal


def waves(leads: np.ndarray, name: str) -> np.ndarray:
    """Column of the family of waves: lead -> value."""
    names = ["high", "low", "range", "st", "t_high", "t_low", "above", "below", "p"]
    return leads[:, FAMILIES["beat"] + names.index(name)]


def test_amplitudes_areas_and_levels() -> None:
    leads, whole = measure(beats(), ALL, RATE)
    heights = np.linspace(0.5, 1.5, 12)
    upside_down = LEADS.index("aVL")
    expected_high, expected_low = heights.copy(), np.zeros(12)
    expected_high[upside_down], expected_low[upside_down] = 0, -heights[upside_down]
    np.testing.assert_allclose(waves(leads, "high"), expected_high, atol=5e-3)
    np.testing.assert_allclose(waves(leads, "low"), expected_low, atol=5e-3)
    np.testing.assert_allclose(waves(leads, "range"), heights, atol=5e-3)
    # The integral of a Gaussian, in tenths of mV s.
    np.testing.assert_allclose(waves(leads, "above"), expected_high * 0.015 * (2 * np.pi) ** 0.5 * 10, atol=5e-3)
    level = np.zeros(12)
    level[LEADS.index("V2")] = 0.2
    np.testing.assert_allclose(waves(leads, "st"), level, atol=0.05)
    r = dict(zip(LEADS, expected_high, strict=True))
    sokolow, r_v1 = whole[4], whole[6]
    np.testing.assert_allclose([sokolow, r_v1], [max(r["V5"], r["V6"]), r["V1"]], atol=5e-3)


@pytest.mark.parametrize("interval", [0.6, 0.8, 1.1])
def test_rr_interval_features_of_a_regular_rhythm(interval: float) -> None:
    mean, deviation, differences, shortest = measure(beats(interval), ALL, RATE)[1][10:14]
    assert mean == pytest.approx(interval, abs=0.01)
    assert deviation < 0.01
    assert differences < 0.01
    assert shortest == pytest.approx(1, abs=0.02)


def test_a_premature_beat_changes_intervals_but_not_the_median_beat() -> None:
    steady, odd = beats(1.0), beats(1.0)
    odd[:, 600:680] = 0
    odd[:, 610:640] = steady[:, 625:655]
    before, after = measure(steady, ALL, RATE)[1], measure(odd, ALL, RATE)[1]
    assert after[11] > before[11] + 0.03
    assert after[13] < 0.9
    np.testing.assert_allclose(median_beat(odd, RATE)[0], median_beat(steady, RATE)[0], atol=1e-6)


def test_the_axis_is_an_angle_of_I_and_aVF() -> None:
    signal = beats()
    net = {name: measure(signal, ALL, RATE)[0][LEADS.index(name), FAMILIES["beat"] + 6] for name in ("I", "aVF")}
    angle = np.arctan2(net["aVF"], net["I"])
    np.testing.assert_allclose(measure(signal, ALL, RATE)[1][-2:], [np.cos(angle), np.sin(angle)], atol=0.02)


def test_features_hardly_depend_on_the_sampling_rate() -> None:
    """500 Hz and 100 Hz of one heart: the same millivolts and seconds."""
    slow, fast = measure(beats(), ALL, 100.0), measure(beats(rate=500), ALL, 500.0)
    family = slice(FAMILIES["beat"], FAMILIES["beat"] + 3)
    np.testing.assert_allclose(slow[0][:, family], fast[0][:, family], atol=0.03)
    np.testing.assert_allclose(slow[1][10:14], fast[1][10:14], atol=0.02)


def test_missing_features_are_nan_and_become_the_mean() -> None:
    there = ALL.copy()
    there[LEADS.index("V5")] = False
    leads, whole = measure(beats(), there, RATE)
    assert np.isnan(leads[LEADS.index("V5")]).all()
    assert np.isfinite(np.delete(leads, LEADS.index("V5"), 0)).all()
    assert np.flatnonzero(np.isnan(whole)).tolist() == [4, 7]  # Sokolow-Lyon, S in V5
    flat = measure(np.zeros((12, 1000)), ALL, RATE)
    assert np.isnan(flat[1]).all()
    assert np.isnan(flat[0][:, : FAMILIES["beat"] + FAMILIES["waves"]]).all()


@pytest.fixture(scope="module")
def fitted() -> tuple[MeasuredTransform, list[Ecg]]:
    hearts = [MODALITY.toy_sample(place % 10, np.random.default_rng(place)) for place in range(30)]
    transform = MODALITY.transform("features", {})
    assert isinstance(transform, MeasuredTransform)
    transform.fit(map(transform.featurise, hearts))
    return transform, hearts


def test_training_recordings_are_standardised_and_families_balanced(
    fitted: tuple[MeasuredTransform, list[Ecg]],
) -> None:
    transform, hearts = fitted
    rows = transform.collate([transform.item(heart) for heart in hearts])["measures"].double()
    assert rows.mean(0).abs().max() < 0.03
    lengths, lead = (rows**2).mean(0), sum(FAMILIES.values())
    by_lead = lengths[: 12 * lead].view(12, lead)
    start = 0
    for size in FAMILIES.values():
        assert 0.8 < float(by_lead[:, start : start + size].sum()) < 1.02
        start += size
    assert 0.8 < float(lengths[12 * lead :].sum()) < 1.02


def test_halved_voltage_lowers_the_amplitude_features(fitted: tuple[MeasuredTransform, list[Ecg]]) -> None:
    transform, hearts = fitted
    low = Ecg(hearts[0].signal / 2, RATE, LEADS, hearts[0].valid)
    place = FAMILIES["beat"] + 2  # the range of lead I
    assert transform.item(low)["measures"][place] < transform.item(hearts[0])["measures"][place] - 0.05


def test_missing_leads_are_masked_and_extreme_values_bounded(fitted: tuple[MeasuredTransform, list[Ecg]]) -> None:
    transform, hearts = fitted
    lead, heart = sum(FAMILIES.values()), hearts[0]
    few = transform.item(Ecg(heart.signal[:6], RATE, LEADS[:6], heart.valid[:6]))
    assert not few["measures"][6 * lead : 12 * lead].any()
    assert few["measures"][: 6 * lead].any()
    encoder = MODALITY.encoder("features", transform, width=8)
    tokens = encoder(transform.collate([few])).tokens
    assert tokens is not None
    assert tokens.mask.tolist() == [[True] * 6 + [False] * 6 + [True]]
    wild = transform.item(Ecg(heart.signal * 100, RATE, LEADS, heart.valid))["measures"]
    assert float((wild**2).sum()) <= 4 * 4.0**2 + 1e-3


def test_tokens_add_up_to_the_vector_and_the_map_is_linear(fitted: tuple[MeasuredTransform, list[Ecg]]) -> None:
    transform, hearts = fitted
    encoder = MODALITY.encoder("features", transform, width=8)
    inputs = transform.collate([transform.item(heart) for heart in hearts[:4]])
    weight = torch.randn(inputs["measures"].shape[1], 8, generator=torch.Generator().manual_seed(0))
    encoder.set_linear_weights(weight)
    found = encoder(inputs)
    assert found.tokens is not None
    features = encoder.linear_features(inputs)
    assert features is not None
    torch.testing.assert_close(found.vector, features @ weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.tokens.values.sum(1), found.vector, atol=1e-5, rtol=1e-5)
    units = MODALITY.token_labels(hearts[0], transform, encoder, "tokens", 13)
    assert units is not None
    assert [label.split()[0] for label in units.labels] == list(LEADS)
    assert units.members.sum(0).tolist() == [1.0] * 12 + [0.0]


def test_invalid_arguments_are_errors(fitted: tuple[MeasuredTransform, list[Ecg]]) -> None:
    with pytest.raises(UserError, match="call fit"):
        MODALITY.transform("features", {}).item(fitted[1][0])
    with pytest.raises(UserError, match="none"):
        MODALITY.transform("features", {}).fit([])
    with pytest.raises(UserError, match="beats"):
        MODALITY.transform("features", {}, beats=True)
    with pytest.raises(UserError, match="its own transform"):
        MODALITY.encoder("features", MODALITY.transform("resnet", {}))


def test_both_rates_of_a_real_record_measure_alike(real_data: Path) -> None:
    folder = real_data / "ptbxl_500"
    if not folder.is_dir():
        pytest.skip(f"no PTB-XL records at {folder}")
    heads = sorted(folder.glob("records500/*/*.hea"))[:30]
    low = [Path(str(head).replace("records500", "records100").replace("_hr", "_lr")) for head in heads]
    transform = MODALITY.transform("features", {})
    transform.fit(transform.featurise(read_ecg(path)) for path in low)
    one, two = (
        torch.from_numpy(np.stack([transform.item(read_ecg(path))["measures"] for path in paths]))
        for paths in (heads, low)
    )
    alike = torch.cosine_similarity(one, two)
    assert alike.median() >= 0.999
    assert alike.min() >= 0.99
    assert (torch.cdist(one, two).argmin(1) == torch.arange(len(heads))).all()
