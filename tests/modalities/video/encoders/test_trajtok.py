"""Soft trajectories: the assignment, rows by a float64 loop, what is detached, masked frames."""

from typing import Any

import pytest
import torch

from mmalign.errors import UserError
from modalities.image import MODALITY as IMAGE
from modalities.video.encoders.trajtok import TrajTok

from .video_inputs import longer, reordered, rows, video_inputs

SMALL: dict[str, Any] = {"queries": 5, "width": 16, "depth": 1, "heads": 2, "cnn_width": 4, "cnn_depths": [1, 1]}


def encoder(**args: Any) -> TrajTok:
    torch.manual_seed(0)
    return TrajTok(IMAGE.transform("vit", {}, size=32), **(SMALL | args)).eval()


def test_a_cell_is_divided_among_the_queries() -> None:
    inputs = video_inputs(real=[8, 5])
    assignment = encoder().assign(inputs)
    assert assignment.shape == (2, 8, 8, 8, 5)
    assert (assignment >= 0).all()
    expected = inputs["mask"][:, :, None, None].expand(-1, -1, 8, 8).float()
    torch.testing.assert_close(assignment.sum(4), expected)


def test_rows_are_means_weighted_by_the_assignment() -> None:
    inputs, model = video_inputs(batch=1, frames=3, real=[2]), encoder().double()
    with torch.no_grad():
        features = model.cells(model.normalise(inputs["frames"][inputs["mask"]]), 8)
        found, assignment = model._rows(features, inputs["mask"], inputs["times"]), model.assign(inputs)
    mass = assignment[0].sum((1, 2))  # (time, queries)
    for q in range(5):
        for t in range(2):
            weights = [(assignment[0, t, y, x, q], y, x) for y in range(8) for x in range(8)]
            mean = sum(weight * features[t, y, x] for weight, y, x in weights) / mass[t, q]
            centre = sum(weight * torch.tensor([(x + 0.5) / 8, (y + 0.5) / 8]) for weight, y, x in weights) / mass[t, q]
            torch.testing.assert_close(found.values[q, t], mean)
            torch.testing.assert_close(found.coordinates[q, t], centre.double(), rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(found.weights[q, t], mass[t, q] / mass[:, q].max())
    assert found.mask.tolist() == [[True, True, False]] * 5


def test_the_assignment_trains_no_feature() -> None:
    model = encoder().train()
    model.assign(video_inputs()).square().sum().backward()
    assert all(parameter.grad is None for parameter in model.cells.parameters())
    assert model.assignment.queries.grad.abs().max() > 0


def test_every_parameter_is_trained() -> None:
    model = encoder().train()
    features = model(video_inputs())
    (features.vector.square().sum() + features.parts.values.square().sum()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


SUMS = 3e-5
"""Float32: convolutions of a batch of another size add up to a thousand products in another order."""


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_masked_frames_and_the_batch_do_not_matter(pool: str) -> None:
    inputs, model = video_inputs(batch=3, real=[8, 5, 1]), encoder(pool=pool)
    del inputs["segments"]
    every = model(inputs)
    torch.testing.assert_close(model(longer(inputs, 4)).vector, every.vector, rtol=0, atol=SUMS)
    noise = torch.randint_like(inputs["frames"], 256)
    filled = {**inputs, "frames": torch.where(inputs["mask"][:, :, None, None, None], inputs["frames"], noise)}
    torch.testing.assert_close(model(filled).vector, every.vector, rtol=0, atol=SUMS)
    for row in range(3):
        torch.testing.assert_close(model(rows(inputs, row)).vector, every.vector[row : row + 1], rtol=0, atol=SUMS)


def test_the_order_of_frames_matters() -> None:
    inputs, model = video_inputs(), encoder()
    backwards = reordered(inputs, [7, 6, 5, 4, 3, 2, 1, 0])
    assert (model(backwards).vector - model(inputs).vector).abs().max() > 1e-3


@pytest.mark.parametrize("frames", [1, 40])
def test_the_number_of_tokens_is_that_of_the_queries(frames: int) -> None:
    features = encoder()(video_inputs(frames=frames))
    assert features.parts.values.shape == (2, 5, 16)
    assert features.tokens.values.shape == (2, frames, 16)


@pytest.mark.parametrize("args", [{"queries": 0}, {"cell": 0}, {"cell": 33}])
def test_invalid_arguments_are_errors(args: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="queries=.* and cell="):
        encoder(**args)


def test_config_rebuilds_the_encoder() -> None:
    model = encoder(cell=8)
    again = TrajTok(IMAGE.transform("vit", {}, size=32), **model.config()).eval()
    again.load_state_dict(model.state_dict())
    inputs = video_inputs()
    torch.testing.assert_close(again(inputs).vector, model(inputs).vector, rtol=0, atol=0)
