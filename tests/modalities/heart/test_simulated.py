"""ECG, echo and report of a simulated heart agree with what is true of it, and so with each other."""

import re
from dataclasses import replace

import numpy as np
import pytest
from heart_measures import ecg_rate, echo_rate, ejection_fraction, features, median_beat

from modalities.heart.simulator.ecg import ecg_of
from modalities.heart.simulator.echo import contraction, echo_of, semi_axes
from modalities.heart.simulator.ejection_fraction import CLASSES
from modalities.heart.simulator.heart import CONDUCTIONS, STREAMS, Heart, beat_times, draw_heart
from modalities.heart.simulator.report import CONDUCTION, RHYTHMS, report_of


@pytest.fixture(scope="module")
def hearts() -> list[Heart]:
    return [draw_heart(3, index, ecg_noise=0.0, poor=0.0) for index in range(60)]


def test_the_drawn_cavity_has_the_ejection_fraction(hearts: list[Heart]) -> None:
    truth = np.array([heart.ejection_fraction for heart in hearts])
    measured = np.array([ejection_fraction(echo_of(heart)) for heart in hearts])
    assert np.corrcoef(truth, measured)[0, 1] > 0.99
    assert np.abs(measured - truth).max() < 6  # pixels, and a frame that misses the end of systole


def test_ellipsoid_volumes_give_the_exact_ejection_fraction(hearts: list[Heart]) -> None:
    for heart in hearts[:10]:
        a, b = semi_axes(heart, np.array([0.0, 0.5, 1.0]))
        volume = a**2 * b
        assert 100 * (1 - volume[2] / volume[0]) == pytest.approx(heart.ejection_fraction)
        assert volume[1] == pytest.approx((volume[0] + volume[2]) / 2)


@pytest.mark.parametrize("conduction", CONDUCTIONS)
@pytest.mark.parametrize("rate", [45.0, 130.0])
def test_each_beat_ends_full_and_contracts_whole(hearts: list[Heart], conduction: str, rate: float) -> None:
    heart = replace(hearts[0], conduction=conduction, rate=rate)
    beats = beat_times(rate, 4.0, np.random.default_rng(0))
    time = np.linspace(0, 4, 40_001)
    curve = contraction(heart, time, beats)
    assert curve.min() >= -1e-12
    assert curve.max() == pytest.approx(1, abs=1e-6)
    inner = beats[(beats > 0.01) & (beats < 4)]
    np.testing.assert_allclose(contraction(heart, inner - 1e-6, beats), 0, atol=1e-6)
    assert np.abs(np.diff(curve)).max() < 0.01  # no jump


def test_ecg_and_echo_have_the_rate(hearts: list[Heart]) -> None:
    truth = np.array([heart.rate for heart in hearts])
    electric = np.array([ecg_rate(ecg_of(heart)) for heart in hearts])
    mechanic = np.array([echo_rate(echo_of(heart)) for heart in hearts])
    assert np.abs(electric / truth - 1).max() < 0.03
    assert np.abs(mechanic / truth - 1).max() < 0.08  # two seconds at 25 Hz
    assert np.corrcoef(electric, mechanic)[0, 1] > 0.98


def test_conduction_shows_in_the_ecg(hearts: list[Heart]) -> None:
    for heart in hearts[:20]:
        calm = replace(heart, rate=65.0, width=1.0)
        beat = {name: median_beat(ecg_of(replace(calm, conduction=name)))[0] for name in CONDUCTIONS}
        qrs = {name: _duration(one) for name, one in beat.items()}
        assert qrs["left bundle branch block"] > 1.4 * qrs["normal conduction"]
        assert qrs["first-degree AV block"] == pytest.approx(qrs["normal conduction"], abs=0.02)
        # In lead II, the largest value before the QRS is the P wave; R is at place 30.
        p = {name: 30 - int(one[1, :22].argmax()) for name, one in beat.items()}
        assert p["first-degree AV block"] > p["normal conduction"] + 6
        # Bundle branch block: T against R in V6.
        block = beat["left bundle branch block"][11]
        assert block[45:65].min() < -0.03 < 0.3 < block[18:44].max()


def _duration(beat: np.ndarray) -> float:
    """Seconds for which the vector of all leads is longer than a fifth of its longest."""
    size = np.sqrt((beat**2).sum(0))
    return float((size[18:44] > 0.2 * size.max()).sum()) / 100


def test_ejection_fraction_correlates_with_ecg_signs(hearts: list[Heart]) -> None:
    many = [draw_heart(5, index) for index in range(800)]
    truth = np.array([heart.ejection_fraction for heart in many])
    for name, sign in {"width": -1, "voltage": 1, "progression": -1, "repolarisation": 1, "rate": -1}.items():
        agree = sign * np.corrcoef(truth, [getattr(heart, name) for heart in many])[0, 1]
        assert 0.3 < agree < 0.95, name
    assert (truth.min(), truth.max()) == pytest.approx((15, 75), abs=0.5)
    assert all(45 <= heart.rate <= 130 for heart in many)
    blocked = np.array([heart.conduction == "left bundle branch block" for heart in many])
    assert blocked[truth < 35].mean() > blocked[truth > 55].mean()


def test_the_ecg_predicts_the_ejection_fraction_but_not_exactly() -> None:
    many = [draw_heart(0, index) for index in range(1000)]
    table = np.stack([features(ecg_of(heart)) for heart in many])
    truth = np.array([heart.ejection_fraction for heart in many])
    table = np.c_[(table - table[:700].mean(0)) / table[:700].std(0), np.ones(1000)]
    weights = np.linalg.solve(table[:700].T @ table[:700] + 3 * np.eye(table.shape[1]), table[:700].T @ truth[:700])
    error = (table @ weights - truth)[700:] ** 2
    assert 0.6 < 1 - error.mean() / truth[700:].var() < 0.8
    spoilt = np.array([heart.poor != "" for heart in many[700:]])
    assert error[spoilt].mean() > 2 * error[~spoilt].mean()


def test_reports_agree_with_the_simulated_heart() -> None:
    said = {"number": 0, "word": 0, "rate": 0, "conduction": 0}
    every = {sentence: name for name, sentences in CONDUCTION.items() for sentence in sentences}
    for index in range(600):
        heart = draw_heart(2, index)
        report = report_of(heart)
        for number in re.findall(r"(\d+) (?:%|percent)", report):
            assert abs(int(number) - heart.ejection_fraction) <= 0.5
            said["number"] += 1
        words = re.sub("normal (rate|sinus|pr|conduction)", "", report.lower())
        for low, (below, name) in zip((0, 30, 40, 50), CLASSES, strict=True):
            if re.search(rf"\b{name}\b", words):
                assert low <= heart.ejection_fraction < below, report
                said["word"] += 1
        for number in re.findall(r"(?:Heart rate|rhythm at|Ventricular rate) (\d+)", report):
            assert abs(int(number) - heart.rate) <= 0.5
            said["rate"] += 1
        kinds = [kind for kind, sentences in RHYTHMS.items() if any(one in report for one in sentences)]
        assert all(kind == ("slow" if heart.rate < 60 else "fast" if heart.rate > 100 else "usual") for kind in kinds)
        found = {name for sentence, name in every.items() if sentence in report}
        assert found <= {heart.conduction}
        said["conduction"] += len(found)
    assert all(120 < count < 590 for count in said.values()), said  # each is said often, and left out at times
    assert len({report_of(draw_heart(2, index)) for index in range(600)}) > 400


def test_hearts_are_deterministic_per_seed_and_index() -> None:
    assert draw_heart(0, 5) == draw_heart(0, 5)
    assert draw_heart(0, 5) != draw_heart(1, 5)
    assert draw_heart(0, 5).ejection_fraction != draw_heart(0, 6).ejection_fraction
    heart = draw_heart(0, 5)
    assert ecg_of(heart) == ecg_of(heart)
    assert echo_of(heart) == echo_of(heart)
    assert ecg_of(heart) != ecg_of(draw_heart(0, 6))
    assert len({heart.stream(name).random() for name in STREAMS}) == len(STREAMS)
    # Noise is the ECG's alone: the same heart under another option.
    loud = draw_heart(0, 5, ecg_noise=3.0)
    assert (loud.ejection_fraction, loud.rate) == (heart.ejection_fraction, heart.rate)
    assert echo_of(loud) == echo_of(heart)
    assert report_of(loud) == report_of(heart)
    assert loud.noise == pytest.approx(3 * heart.noise)


def test_a_poor_ecg_is_noisy_or_lacks_the_chest_leads() -> None:
    spoilt = [draw_heart(0, index, poor=1.0) for index in range(20)]
    assert {heart.poor for heart in spoilt} == {"noise", "leads"}
    for heart in spoilt:
        ecg = ecg_of(heart)
        assert len(ecg.leads) == (6 if heart.poor == "leads" else 12)
        if heart.poor == "noise":
            clean = ecg_of(replace(heart, noise=0.0)).signal
            assert np.std(ecg.signal - clean) > 0.15
    assert not any(draw_heart(0, index, poor=0.0).poor for index in range(50))
