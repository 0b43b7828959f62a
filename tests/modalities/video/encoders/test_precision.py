"""Every encoder under bfloat16 autocast, and a batch in pieces."""

from typing import Any

import pytest
import torch

from mmalign.modality import Encoder
from modalities.image import MODALITY as IMAGE
from modalities.video.encoders.trajtok import TrajTok
from modalities.video.encoders.trajvit import TrajViT
from modalities.video.encoders.vit3d import ViT3d
from tests.bfloat16 import bfloat16_where_torch_has_it

from .video_inputs import rows, video_inputs

SMALL: dict[str, tuple[type[Encoder], dict[str, Any]]] = {
    "vit3d": (ViT3d, {"tubelet": [2, 8]}),
    "trajvit": (TrajViT, {"cnn_width": 8}),
    "trajtok": (TrajTok, {"cnn_width": 8, "queries": 4}),
}


def encoder(name: str) -> Encoder:
    kind, args = SMALL[name]
    torch.manual_seed(0)
    transform: Any = IMAGE.transform("vit", {}, size=32)
    return kind(transform, width=16, depth=1, heads=2, **args)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_autocast_is_close_to_float32(name: str) -> None:
    inputs, model = video_inputs(real=[8, 5]), encoder(name)
    exact = model(inputs).vector
    with bfloat16_where_torch_has_it(), torch.autocast("cpu", torch.bfloat16):
        rounded = model(inputs).vector
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
    rounded.float().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(name: str) -> None:
    inputs, model = video_inputs(batch=4, real=[8, 5, 8, 1]), encoder(name)
    gradients = []
    for pieces in ([[0, 1, 2, 3]], [[0], [1, 2, 3]]):
        model.zero_grad()
        for piece in pieces:
            (model(rows(inputs, *piece)).vector ** 3).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)
