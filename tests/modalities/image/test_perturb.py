"""Perturbed pictures: closed forms of noise, brightness and contrast; JPEG and blur as PIL computes them."""

import io

import numpy as np
from PIL import Image

from modalities.image.perturb import perturb_image


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture() -> np.ndarray:
    return rng(1).integers(60, 190, (40, 60, 3), dtype=np.uint8)


def test_noise_has_its_deviation() -> None:
    change = perturb_image(np.full((100, 100, 3), 128, np.uint8), "noise", 0.08, rng()).astype(float) - 128
    assert abs(change.mean()) < 0.5
    np.testing.assert_allclose(change.std(), 0.08 * 255, rtol=0.02)


def test_brightness_shifts_and_contrast_scales_about_the_mean() -> None:
    sample = picture()
    shifts = {
        int((perturb_image(sample, "brightness", 0.2, rng(seed)).astype(int) - sample).max()) for seed in range(9)
    }
    assert shifts == {51, -51}
    mean = sample.mean()
    expected = np.round(mean + 0.3 * (sample.astype(float) - mean))
    np.testing.assert_array_equal(perturb_image(sample, "contrast", 0.3, rng()), expected)


def test_jpeg_and_blur_equal_pil() -> None:
    sample, file = picture(), io.BytesIO()
    Image.fromarray(sample).save(file, "JPEG", quality=25)
    np.testing.assert_array_equal(perturb_image(sample, "jpeg", 25, rng()), np.asarray(Image.open(file)))
    blurred = perturb_image(sample, "blur", 0.1, rng()).astype(float)
    assert blurred.std() < 0.2 * sample.std()
    np.testing.assert_allclose(blurred.mean(), sample.mean(), atol=1)


def test_values_are_clipped() -> None:
    for value in (0, 255):
        sample = np.full((8, 8, 3), value, np.uint8)
        changed = {int(perturb_image(sample, "brightness", 0.4, rng(seed))[0, 0, 0]) for seed in range(9)}
        assert changed == {value, abs(value - 102)}
