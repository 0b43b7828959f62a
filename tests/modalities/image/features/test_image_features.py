"""Hand-crafted features of images: gradients, colours, patterns."""

import math

import numpy as np
import pytest
from PIL import Image

from modalities.image.features.image_features import (
    FAMILIES,
    ORIENTATIONS,
    PATTERNS,
    SIDE,
    WIDTH,
    binary_patterns,
    image_features,
    oriented_gradients,
)


def families(sample: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(FAMILIES, np.split(image_features(sample), np.cumsum([*FAMILIES.values()])[:-1]), strict=True))


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def test_gradients_equal_a_loop_over_pixels() -> None:
    """Dalal and Triggs: each pixel's gradient is divided among the two nearest orientations of its cell."""
    values, cells = noise().astype(np.float64) / 255, 4
    expected = np.zeros((cells, cells, ORIENTATIONS))
    for row in range(SIDE):
        for column in range(SIDE):
            pairs = []
            for channel in range(3):
                inside = 0 < row < SIDE - 1, 0 < column < SIDE - 1
                down = values[row + 1, column, channel] - values[row - 1, column, channel] if inside[0] else 0.0
                across = values[row, column + 1, channel] - values[row, column - 1, channel] if inside[1] else 0.0
                pairs.append((math.hypot(down, across), down, across))
            size, down, across = max(pairs, key=lambda pair: pair[0])
            position = math.atan2(down, across) % math.pi / math.pi * ORIENTATIONS - 0.5
            lower = math.floor(position)
            for index, weight in ((lower, 1 - (position - lower)), (lower + 1, position - lower)):
                expected[row * cells // SIDE, column * cells // SIDE, index % ORIENTATIONS] += weight * size
    np.testing.assert_allclose(oriented_gradients(values, cells), expected, atol=1e-5)


def test_edges_have_the_orientation_of_their_gradient() -> None:
    """A vertical edge has a horizontal gradient: half in the first and half in the last of the nine orientations."""
    edge = np.zeros((SIDE, SIDE, 3), np.uint8)
    edge[:, SIDE // 2 :] = 255
    upright, lying = (families(one)["gradients 1 x 1"] for one in (edge, edge.transpose(1, 0, 2)))
    assert upright[0] == upright[-1] > 0.5
    assert upright[1:-1].max() == 0
    assert lying.argmax() == ORIENTATIONS // 2


def test_patterns_do_not_depend_on_quarter_turns_of_the_picture() -> None:
    assert PATTERNS == 36  # necklaces of eight beads in two colours
    grey = noise().mean(-1).astype(np.float32) / 255
    counts = np.bincount(binary_patterns(grey, 2).ravel(), minlength=PATTERNS)
    turned = np.bincount(binary_patterns(np.rot90(grey), 2).ravel(), minlength=PATTERNS)
    np.testing.assert_array_equal(counts, turned)
    assert (counts > 0).sum() == PATTERNS
    assert set(binary_patterns(np.full((8, 8), 0.5, np.float32), 1).ravel()) == {0}


def test_colours_of_an_image_of_one_colour() -> None:
    sample = np.full((20, 30, 3), (255, 128, 0), np.uint8)
    parts = families(sample)
    np.testing.assert_allclose(parts["colours"].reshape(-1, 3), [[1, 128 / 255, 0]] * 64, atol=1e-6)
    assert parts["contrast"].max() < 1e-3
    assert parts["histogram"].max() == 1
    assert parts["histogram"].argmax() == 5 * 36 + 3 * 6
    assert all(parts[name].max() == 0 for name in FAMILIES if name.startswith("gradients"))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (300, 200), (64, 64)])
def test_images_of_any_shape_have_finite_features(shape: tuple[int, int]) -> None:
    features = image_features(np.asarray(Image.fromarray(noise()).resize(shape)))
    assert features.shape == (WIDTH,)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
