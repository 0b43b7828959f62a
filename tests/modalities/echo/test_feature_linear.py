"""Measures are those that were put into a made-up clip, and a clip that is too short says so by nothing."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mmalign.errors import UserError
from modalities.echo import MODALITY
from modalities.echo.encoders.feature_linear import MeasuredTransform
from modalities.echo.features.clip_features import COMPONENTS, HERTZ, LAGS, WHOLE, measure
from modalities.echo.sample import Echo

RATE = 25.0


def wave(hertz: float, count: int = 50, *, amplitude: float = 40.0) -> NDArray[np.uint8]:
    """A picture of 100, of which one cell of 4 x 4 pixels swings."""
    frames = np.full((count, 32, 32), 100.0)
    frames[:, 8:12, 20:24] += amplitude * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)[:, None, None]
    return frames.round().astype(np.uint8)


def test_oscillating_cell_has_its_mean_and_amplitude() -> None:
    cells, _ = measure(wave(1.0), RATE)
    assert cells[:, 1].argmax() == 2 * 8 + 5
    assert np.flatnonzero(cells[:, 1] > 0).tolist() == [21]
    np.testing.assert_allclose(cells[21], [100, np.log(40 / np.sqrt(2) + 1)], atol=0.05)
    np.testing.assert_allclose(np.delete(cells[:, 0], 21), 100)


@pytest.mark.parametrize("hertz", [1.0, 2.0, 3.5])
def test_the_frequency_shows_in_spectrum_and_lags(hertz: float) -> None:
    _, whole = measure(wave(hertz), RATE)
    spectrum, lags = whole[: len(HERTZ)], whole[len(HERTZ) : len(HERTZ) + LAGS]
    assert HERTZ[spectrum.argmax()] == hertz
    period = round(RATE / hertz)  # frames
    assert lags[period - 1] < lags[period // 2 - 1] - 1


def test_differences_and_components_against_loops() -> None:
    frames = MODALITY.toy_sample(3, np.random.default_rng(3)).frames[:30, :32, :32]
    _, whole = measure(frames, RATE)
    wide = np.pad(frames.astype(float), ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth = np.zeros((30, 32, 32))
    for y in range(32):
        for x in range(32):
            smooth[:, y, x] = wide[:, y : y + 3, x : x + 3].mean((1, 2))
    for lag in (1, 7, 29):
        expected = np.log(np.mean((smooth[lag:] - smooth[:-lag]) ** 2) + 0.1)
        np.testing.assert_allclose(whole[len(HERTZ) + lag - 1], expected, rtol=1e-9)
    flat = (smooth - smooth.mean(0)).reshape(30, -1)
    expected = np.log(np.linalg.svd(flat / 32, compute_uv=False)[:COMPONENTS] + 0.1)
    np.testing.assert_allclose(whole[-COMPONENTS:], expected, rtol=1e-6)


def test_features_undefined_for_short_clips_are_missing() -> None:
    _, whole = measure(wave(1.0, 6), RATE)
    lags = whole[len(HERTZ) : len(HERTZ) + LAGS]
    assert np.isfinite(lags[:5]).all()
    assert np.isnan(lags[5:]).all()
    assert np.isnan(whole[: len(HERTZ)]).tolist() == [bool(hertz < 0.5 * RATE / 6) for hertz in HERTZ]
    _, slow = measure(wave(1.0, 20), 6.0)
    assert np.isnan(slow[: len(HERTZ)]).tolist() == [bool(hertz > 3 or hertz < 0.15) for hertz in HERTZ]


@pytest.fixture(scope="module")
def fitted() -> tuple[MeasuredTransform, list[Echo]]:
    hearts = [MODALITY.toy_sample(place % 10, np.random.default_rng(place)) for place in range(30)]
    transform = MODALITY.transform("features", {})
    assert isinstance(transform, MeasuredTransform)
    transform.fit(map(transform.featurise, hearts))
    return transform, hearts


def test_training_clips_are_standardised_and_families_balanced(fitted: tuple[MeasuredTransform, list[Echo]]) -> None:
    transform, hearts = fitted
    rows = transform.collate([transform.item(heart) for heart in hearts])["measures"].double()
    assert rows.mean(0).abs().max() < 0.05
    lengths = (rows**2).mean(0).numpy()
    families = np.array(["level", "movement"] * 64 + list(WHOLE))
    for family in np.unique(families):
        assert 0.5 < lengths[families == family].sum() < 1.05, family  # cells outside the sector never change


def test_short_and_still_clips_have_finite_features(fitted: tuple[MeasuredTransform, list[Echo]]) -> None:
    transform, hearts = fitted
    short = transform.item(Echo(hearts[0].frames[:8], hearts[0].rate))["measures"]
    assert np.isfinite(short).all()
    assert short[:128].any()
    assert not short[128 + len(HERTZ) + 10 : 128 + len(HERTZ) + LAGS].any()
    still = transform.item(Echo(np.zeros((40, 48, 64), np.uint8), 30.0))["measures"]
    assert np.isfinite(still).all()


def test_tokens_add_up_to_the_vector_and_the_map_is_linear(fitted: tuple[MeasuredTransform, list[Echo]]) -> None:
    transform, hearts = fitted
    encoder = MODALITY.encoder("features", transform, width=8)
    inputs = transform.collate([transform.item(heart) for heart in hearts[:4]])
    weight = torch.randn(185, 8, generator=torch.Generator().manual_seed(0))
    encoder.set_linear_weights(weight)
    found = encoder(inputs)
    assert found.tokens is not None
    assert found.tokens.values.shape == (4, 65, 8)
    torch.testing.assert_close(found.vector, inputs["measures"] @ weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.tokens.values.sum(1), found.vector, atol=1e-5, rtol=1e-5)
    features = encoder.linear_features(inputs)
    assert features is not None
    torch.testing.assert_close(features, inputs["measures"])


def test_a_transform_restored_makes_the_same_item(fitted: tuple[MeasuredTransform, list[Echo]]) -> None:
    transform, hearts = fitted
    again = MODALITY.restore_transform(transform.config())
    np.testing.assert_array_equal(again.item(hearts[0])["measures"], transform.item(hearts[0])["measures"])


def test_invalid_arguments_are_errors(fitted: tuple[MeasuredTransform, list[Echo]]) -> None:
    with pytest.raises(UserError, match="call fit"):
        MODALITY.transform("features", {}).item(fitted[1][0])
    with pytest.raises(UserError, match="multiple of 8, got 30"):
        MODALITY.transform("features", {}, size=30)
    with pytest.raises(UserError, match="its own transform"):
        MODALITY.encoder("features", MODALITY.transform("frames", {}))
