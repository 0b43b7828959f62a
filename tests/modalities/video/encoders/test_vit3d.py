"""Space-time patches: their number, their order, masked frames, a free number of frames."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.types import Inputs
from modalities.image import MODALITY as IMAGE
from modalities.video.encoders.codes import time_code
from modalities.video.encoders.vit3d import ViT3d, whole_tubelets

from .video_inputs import longer, reordered, rows, video_inputs

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "tubelet": [2, 8]}


def encoder(size: int = 32, **args: Any) -> ViT3d:
    torch.manual_seed(0)
    return ViT3d(IMAGE.transform("vit", {}, size=size), **(SMALL | args)).eval()


def test_sixteen_frames_of_224_pixels_are_1568_tokens() -> None:
    inputs = video_inputs(batch=1, frames=16, size=224)
    with torch.no_grad():
        features = encoder(224, depth=1, tubelet=[2, 16])(inputs)
    assert features.tokens.values.shape == (1, 1568, 16)
    assert features.tokens.mask.all()


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_masked_frames_are_not_read(pool: str) -> None:
    inputs, model = video_inputs(real=[8, 5]), encoder(pool=pool)
    before = model(inputs)
    noise = torch.randint_like(inputs["frames"], 256)
    filled = {**inputs, "frames": torch.where(inputs["mask"][:, :, None, None, None], inputs["frames"], noise)}
    assert not torch.equal(filled["frames"], inputs["frames"])
    torch.testing.assert_close(model(filled).vector, before.vector, rtol=0, atol=0)
    torch.testing.assert_close(model(longer(inputs, 5)).vector, before.vector, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(rows(inputs, 1)).vector, before.vector[1:], rtol=1e-5, atol=1e-6)
    short = {name: value[1:, :5] for name, value in inputs.items()}
    torch.testing.assert_close(model(short).vector, before.vector[1:], rtol=1e-5, atol=1e-6)
    assert before.tokens.mask.sum(1).tolist() == [4 * 16, 3 * 16]


@pytest.mark.parametrize("frames", [1, 3, 16, 40])
def test_any_number_of_frames(frames: int) -> None:
    features = encoder()(video_inputs(frames=frames))
    assert features.vector.isfinite().all()
    assert features.tokens.values.shape[1] == -(-frames // 2) * 16


def test_the_order_of_frames_matters() -> None:
    inputs, model = video_inputs(), encoder()
    backwards = reordered(inputs, [7, 6, 5, 4, 3, 2, 1, 0])
    assert (model(backwards).vector - model(inputs).vector).abs().max() > 1e-3


def test_positions_depend_on_time_in_seconds() -> None:
    """Half as many frames of a still scene at the same moments: tokens of those moments are equal before attention."""
    inputs, model = video_inputs(frames=8), encoder(depth=0)
    inputs = {**inputs, "frames": inputs["frames"][:, :1].expand(-1, 8, -1, -1, -1)}
    every = model(inputs).tokens.values.unflatten(1, (4, 16))
    half = {name: value[:, [0, 1, 4, 5]] for name, value in inputs.items()}
    torch.testing.assert_close(model(half).tokens.values.unflatten(1, (2, 16)), every[:, [0, 2]])
    assert (every[:, 0] - every[:, 1]).abs().max() > 1e-2


def test_tokens_are_tubelets_row_by_row() -> None:
    """Without layers a token is the norm of: patch, by a loop, plus the codes of its place and time."""
    inputs, model = video_inputs(batch=1, frames=4), encoder(depth=0).double()
    found = model(inputs).tokens.values[0]
    pixels = model.normalise(inputs["frames"][0])  # (time, 3, size, size)
    weight = model.patches.weight.flatten(1)
    for place, token in enumerate(found):
        t, y, x = place // 16 * 2, place % 16 // 4 * 8, place % 4 * 8
        patch = pixels[t : t + 2, :, y : y + 8, x : x + 8].transpose(0, 1).flatten()
        when = model.times(time_code(inputs["times"][0, t : t + 2].mean(), 16).double())
        value = weight @ patch + model.patches.bias + model.places[place % 16] + when
        norm = model.layers.layers.norm
        torch.testing.assert_close(token, F.layer_norm(value, (16,), norm.weight, norm.bias))


def test_whole_tubelets_repeat_the_last_real_frame() -> None:
    frames = torch.arange(5.0)[None].repeat(2, 1)
    inputs: Inputs = {"frames": frames, "mask": torch.arange(5) < torch.tensor([[5], [3]]), "times": frames / 10}
    found, mask, times = whole_tubelets(inputs, 2)
    assert found.tolist() == [[0, 1, 2, 3, 4, 4], [0, 1, 2, 2, 2, 2]]
    assert mask.sum(1).tolist() == [5, 3]
    torch.testing.assert_close(times, found / 10)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"tubelet": [2, 5]}, "divide the size 32"),
        ({"tubelet": [0, 8]}, "tubelet"),
        ({"tubelet": [8]}, "tubelet"),
        ({"width": 15}, "even width"),
        ({"heads": 3}, "heads must divide"),
        ({"pool": "max"}, "pool"),
        ({"depth": -1}, "depth"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_invalid_arguments_are_errors(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        encoder(**args)


def test_config_rebuilds_the_encoder() -> None:
    model = encoder(pool="mean")
    again = ViT3d(IMAGE.transform("vit", {}, size=32), **model.config()).eval()
    again.load_state_dict(model.state_dict())
    inputs = video_inputs()
    torch.testing.assert_close(again(inputs).vector, model(inputs).vector, rtol=0, atol=0)
