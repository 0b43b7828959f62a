"""Steps keep amplitude, phase and length; what is missing is masked; settings are JSON."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmalign.errors import BadSample, UserError
from modalities.ecg import MODALITY
from modalities.ecg.features.beats import r_peaks
from modalities.ecg.preprocessing import Bandpass, Crop, Normalise, Notch, Resample, Window, make_steps
from modalities.ecg.read import read_ecg
from modalities.ecg.sample import LEADS, Ecg


def wave(frequency: float, rate: float, seconds: float = 10.0) -> Window:
    time = np.arange(round(rate * seconds)) / rate
    values = np.sin(2 * np.pi * frequency * time)[None]
    return Window(values, np.ones(values.shape, bool), rate)


@pytest.mark.parametrize("rate", [500.0, 360.0, 257.0, 128.0, 1000.0, 99.5])
def test_resampling_keeps_length_amplitude_and_phase(rate: float) -> None:
    window = Resample(100.0)(wave(5, rate))
    assert window.values.shape == window.valid.shape == (1, 1000)
    expected = wave(5, 100).values
    np.testing.assert_allclose(window.values[0, 50:-50], expected[0, 50:-50], atol=0.01)


def test_resampling_does_not_alias() -> None:
    assert np.abs(Resample(100.0)(wave(60, 500)).values[:, 50:-50]).max() < 0.05  # it would appear at 40 Hz


def test_resampling_keeps_the_position_of_gaps() -> None:
    window = wave(5, 500)
    window.valid[0, 1000:2000] = False
    valid = Resample(100.0)(window).valid
    assert not valid[0, 200:400].any()
    assert valid[0, :200].all()
    assert valid[0, 400:].all()


def test_the_band_pass_removes_drift_and_noise_without_delay() -> None:
    step = Bandpass(0.5, 40)
    middle = slice(1000, 4000)
    np.testing.assert_allclose(step(wave(10, 500)).values[0, middle], wave(10, 500).values[0, middle], atol=0.01)
    for frequency in (0.1, 100):
        assert np.abs(step(wave(frequency, 500)).values[0, middle]).max() < 0.02


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_the_notch_removes_only_the_mains_frequency(mains: float) -> None:
    middle = slice(1000, 4000)
    assert np.abs(Notch(mains)(wave(mains, 500)).values[0, middle]).max() < 0.02
    np.testing.assert_allclose(
        Notch(mains)(wave(40, 500)).values[0, middle], wave(40, 500).values[0, middle], atol=0.02
    )
    assert Notch(mains)(wave(5, 100)).values.shape == (1, 1000)


def test_crop_and_pad() -> None:
    window = wave(1, 100, 12)
    np.testing.assert_array_equal(Crop(10)(window).values, window.values[:, 100:1100])
    padded = Crop(20)(window)
    assert padded.values.shape == (1, 2000)
    assert padded.valid.sum() == 1200
    assert padded.valid[0, :1200].all()
    starts = {float(Crop(10)(window, np.random.default_rng(seed)).values[0, 0]) for seed in range(9)}
    assert len(starts) > 5
    kept = [int(Crop(10, 0.5)(window, np.random.default_rng(seed)).valid.sum()) for seed in range(30)]
    assert 500 <= min(kept) < max(kept) <= 1000


@pytest.mark.parametrize("by", ["lead", "record", "fixed"])
def test_normalisation_is_over_what_is_valid(by: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, [[0.5], [2.0], [0.0]], (3, 1000))
    valid = np.ones(values.shape, bool)
    valid[:, 600:] = False
    values[:, 600:] = 1e6
    result = Normalise(by)(Window(values, valid, 100.0)).values
    assert np.isfinite(result).all()
    assert not result[~valid].any()
    np.testing.assert_allclose(result[:, :600].mean(1), 0, atol=1e-9)
    deviation = result[:, :600].std(1)
    assert deviation[2] == 0
    if by == "lead":
        np.testing.assert_allclose(deviation[:2], 1)
    else:
        assert deviation[1] / deviation[0] == pytest.approx(4, rel=0.1)


def test_a_constant_lead_stays_finite_and_small() -> None:
    signal = MODALITY.toy_sample(0, np.random.default_rng(0)).signal.copy()
    signal[5] = 1e-5 * signal[4] / np.abs(signal[4]).max()
    item = MODALITY.transform("resnet", {}).item(Ecg(signal, 100.0, LEADS, np.ones(signal.shape, bool)))
    assert np.isfinite(item["signal"]).all()
    assert np.abs(item["signal"][5]).max() < 0.01


def test_missing_leads_gaps_and_padding_are_masked() -> None:
    heart = MODALITY.toy_sample(0, np.random.default_rng(0))
    rows = [1, 6, 7]
    valid = heart.valid[rows].copy()
    valid[:, 300:400] = False
    valid[2, 200:] = False
    sample = Ecg(heart.signal[rows][:, :800], 100.0, ("II", "V1", "V2"), valid[:, :800])
    item = MODALITY.transform("resnet", {}).item(sample)
    assert np.flatnonzero(item["lead_mask"]).tolist() == [1, 6]  # V2 was there a quarter of the time
    assert not item["time_mask"][300:400].any()
    assert not item["time_mask"][800:].any()
    assert item["time_mask"].sum() == 700
    assert not item["signal"][:, ~item["time_mask"]].any()
    with pytest.raises(BadSample, match="a lead with a signal"):
        MODALITY.transform("resnet", {}).item(Ecg(heart.signal, 100.0, LEADS, np.zeros(heart.signal.shape, bool)))


def test_the_sample_is_left_as_it_was(heart: Ecg) -> None:
    before = heart.signal.copy()
    MODALITY.transform("resnet", {}, lead_dropout=0.5, noise=1.0, scaling=1.0).item(heart, np.random.default_rng(0))
    np.testing.assert_array_equal(heart.signal, before)


def test_augmentation(heart: Ecg) -> None:
    plain = MODALITY.transform("resnet", {}).item(heart)
    dropped = MODALITY.transform("resnet", {}, lead_dropout=0.9)
    counts = [int(dropped.item(heart, np.random.default_rng(seed))["lead_mask"].sum()) for seed in range(40)]
    assert min(counts) == 1
    assert np.mean(counts) < 4
    noisy = MODALITY.transform("resnet", {}, noise=0.3).item(heart, np.random.default_rng(0))
    assert (noisy["signal"] - plain["signal"]).std() == pytest.approx(0.3, rel=0.05)
    scaled = MODALITY.transform("resnet", {}, scaling=0.5).item(heart, np.random.default_rng(0))
    ratio = float((scaled["signal"] * plain["signal"]).sum() / (plain["signal"] ** 2).sum())
    assert np.exp(-0.5) < ratio < np.exp(0.5)
    assert ratio != 1
    np.testing.assert_allclose(scaled["signal"], ratio * plain["signal"], atol=1e-5)


def test_steps_are_json_in_order() -> None:
    steps = [{"step": "notch", "frequency": 60}, {"step": "resample", "rate": 250}, {"step": "crop", "seconds": 5}]
    transform = MODALITY.transform("patches", {"beats": True}, steps=steps, noise=0.1)
    config = json.loads(json.dumps(transform.config()))
    assert [step["step"] for step in config["steps"]] == ["notch", "resample", "crop"]
    again = MODALITY.restore_transform(config)
    assert again.config() == transform.config()
    assert again.settings.beats
    assert again.item(MODALITY.toy_sample(0, np.random.default_rng(0)))["signal"].shape == (12, 1250)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": "bandpass"}, "expected a list as steps"),
        ({"steps": [{"rate": 1}]}, "a step looks like"),
        ({"steps": [{"step": "resampl"}]}, "did you mean 'resample'"),
        ({"steps": [{"step": "resample", "rat": 1}]}, "did you mean 'rate'"),
        ({"steps": [{"step": "resample", "rate": "fast"}]}, "rate must be a number"),
        ({"steps": [{"step": "resample", "rate": 1}]}, "20..20000"),
        ({"steps": [{"step": "resample"}]}, "crop once"),
        ({"steps": [{"step": "crop"}]}, "resample once"),
        ({"steps": [{"step": "crop"}, {"step": "resample"}]}, "crop must come after"),
        ({"steps": [{"step": "bandpass", "low": 50}]}, "below high"),
        ({"steps": [{"step": "normalise", "by": "day"}]}, "lead, record or fixed"),
        ({"lead_dropout": 1.5}, "lead_dropout"),
        ({"noise": "much"}, "noise"),
        ({"beats": 1}, "true or false"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MODALITY.transform("resnet", {}, **settings)


def test_make_steps_accepts_step_objects() -> None:
    assert make_steps((Crop(5),)) == (Crop(5),)


@pytest.mark.parametrize("label", range(10))
def test_r_peaks_of_a_simulated_ecg_are_found(label: int) -> None:
    item = MODALITY.transform("resnet", {}, beats=True).item(MODALITY.toy_sample(label, np.random.default_rng(label)))
    rate = 6 * (item["beat_of"].max() + 1)
    assert abs(rate - (58 if label < 5 else 108)) < 20


def test_signal_without_beats_has_one_part() -> None:
    assert len(r_peaks(np.zeros((3, 500), np.float32), 100.0)) == 0
    rng = np.random.default_rng(0)
    drift = np.cumsum(np.ones((1, 1000)), 1).astype(np.float32) + rng.normal(0, 1e-3, (1, 1000)).astype(np.float32)
    item = MODALITY.transform("resnet", {}, beats=True).item(Ecg(drift, 100.0, ("II",), np.ones(drift.shape, bool)))
    assert item["beat_of"].min() == 0


def test_both_rates_of_a_real_record_give_nearly_the_same_tensor(real_data: Path) -> None:
    folder = real_data / "ptbxl_500"
    if not folder.is_dir():
        pytest.skip(f"no PTB-XL records at {folder}")
    transform = MODALITY.transform("resnet", {})
    for head in sorted(folder.glob("records500/*/*.hea"))[:20]:
        low = Path(str(head).replace("records500", "records100").replace("_hr", "_lr"))
        one, two = (transform.item(read_ecg(path))["signal"][:, 100:900].ravel() for path in (head, low))
        assert one @ two / np.sqrt((one @ one) * (two @ two)) > 0.98
