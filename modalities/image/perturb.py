"""Perturbations of pictures for robustness: noise, blur, JPEG, brightness and contrast.

The kinds are those of ImageNet-C (Hendrycks and Dietterich 2019); no level depends on the size of the picture.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageFilter

from modalities.image.augment import Pixels

PERTURBATIONS: Mapping[str, Sequence[float]] = {
    "noise": (0.04, 0.08, 0.16, 0.32),
    "blur": (0.01, 0.02, 0.04, 0.08),
    "jpeg": (75, 50, 25, 10),
    "brightness": (0.1, 0.2, 0.3, 0.4),
    "contrast": (0.75, 0.5, 0.3, 0.15),
}
"""Levels, weakest first: standard deviation of Gaussian noise (1 = full range), Gaussian sigma as a fraction of the
shorter side, JPEG quality, change of brightness (1 = full range; its sign is random), factor of the contrast."""


def perturb_image(sample: Pixels, name: str, level: float, rng: np.random.Generator) -> Pixels:
    """Perturb a picture.

    Args:
        sample: `(height, width, 3)` uint8; not modified.
        name: One of `PERTURBATIONS`.
        level: In the unit that `PERTURBATIONS` states.
        rng: Source of all randomness.

    Example:
        >>> grey = np.full((4, 4, 3), 100, np.uint8)
        >>> int(perturb_image(grey, "contrast", 0.5, np.random.default_rng(0)).mean())  # the mean stays
        100
    """
    values = sample.astype(np.float64)
    if name == "noise":
        values = values + 255 * level * rng.standard_normal(values.shape)
    elif name == "blur":
        sigma = level * min(sample.shape[:2])
        return np.asarray(Image.fromarray(sample).filter(ImageFilter.GaussianBlur(sigma)))
    elif name == "jpeg":
        written = io.BytesIO()
        Image.fromarray(sample).save(written, "JPEG", quality=int(level))
        return np.asarray(Image.open(written).convert("RGB"))
    elif name == "brightness":
        values = values + 255 * level * rng.choice((-1, 1))
    else:
        mean = values.mean()
        values = mean + level * (values - mean)
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
