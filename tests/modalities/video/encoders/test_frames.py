"""An image encoder per frame: colour, masked frames, and what pooling knows of the order of frames."""

from typing import Any

import pytest
import torch

from modalities.common.encoders.image_tower import ImageTower
from modalities.image import MODALITY as IMAGE

from .video_inputs import longer, reordered, rows, video_inputs

TOWERS: dict[str, dict[str, Any]] = {
    "convnet": {"width": 4, "depths": [1]},
    "vit": {"width": 16, "depth": 1, "heads": 2},
}
BACKWARDS = [7, 6, 5, 4, 3, 2, 1, 0]


def encoder(tower: str, **args: Any) -> ImageTower:
    torch.manual_seed(0)
    return ImageTower(IMAGE.transform(tower, {}, size=32), tower=tower, args=TOWERS[tower], **args).eval()


@pytest.mark.parametrize("tower", TOWERS)
def test_mean_pooling_without_layers_does_not_depend_on_the_order(tower: str) -> None:
    inputs, model = video_inputs(), encoder(tower, pool="mean", layers=0)
    before = model(inputs)
    torch.testing.assert_close(model(reordered(inputs, BACKWARDS)).vector, before.vector, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(before.vector, before.tokens.values.mean(1))


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_layers_over_time_see_the_order(pool: str) -> None:
    inputs, model = video_inputs(), encoder("vit", pool=pool, layers=1)
    assert (model(reordered(inputs, BACKWARDS)).vector - model(inputs).vector).abs().max() > 1e-3


def test_a_token_is_the_image_encoders_vector_of_a_colour_frame() -> None:
    inputs, model = video_inputs(), encoder("convnet")
    alone = model.tower({"pixels": inputs["frames"][1]}).vector
    torch.testing.assert_close(model(inputs).tokens.values[1], alone, rtol=1e-5, atol=1e-6)
    swapped = {**inputs, "frames": inputs["frames"].flip(2)}  # blue, green, red
    assert (model(swapped).vector - model(inputs).vector).abs().max() > 1e-3


def test_masked_frames_do_not_enter_the_vector() -> None:
    inputs, model = video_inputs(real=[8, 5]), encoder("vit", pool="attention", layers=1)
    before = model(inputs).vector
    torch.testing.assert_close(model(longer(inputs, 3)).vector, before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(rows(inputs, 1)).vector, before[1:], rtol=1e-5, atol=1e-6)
