"""One geometry for pictures and maps of ids."""

import numpy as np
import pytest

from modalities.common.framing import CROPS, Framing


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (48, 48), (7, 90)])
def test_ids_stay_under_their_pixels(crop: str, shape: tuple[int, int]) -> None:
    """A picture with one colour a segment: after resizing, ids and colours agree away from the borders."""
    labels = np.zeros((2, *shape), np.int32)
    labels[0, :, shape[1] // 2 :], labels[1, shape[0] // 2 :] = 1, 1
    framing = Framing.square(*shape, 32, crop)
    small, ids = framing.bilinear((200 * labels).astype(np.uint8)), framing.nearest(labels)
    assert small.shape == ids.shape == (2, 32, 32)
    certain = (small < 60) | (small > 140)
    assert certain.mean() > 0.8
    np.testing.assert_array_equal((small > 140)[certain], (ids == 1)[certain])


def test_colours_are_resized_as_three_grey_channels() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 30, 50, 3), np.uint8)
    framing = Framing.square(30, 50, 20, "pad")
    together = framing.bilinear(frames)
    for channel in range(3):
        np.testing.assert_array_equal(together[..., channel], framing.bilinear(frames[..., channel]))


def test_nearest_reads_the_centre_of_each_output_pixel() -> None:
    labels = np.arange(36).reshape(1, 6, 6)
    assert Framing((0, 0, 6, 6), (2, 2), (2, 2)).nearest(labels)[0].tolist() == [[7, 10], [25, 28]]
    assert Framing((1.5, 2.0, 2, 2), (2, 2), (2, 2)).nearest(labels)[0].tolist() == [[14, 15], [20, 21]]
