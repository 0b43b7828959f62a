"""Pretraining hides patches and stretches: nothing of them reaches an encoder, and use hides nothing."""

from typing import Any

import numpy as np
import pytest
import torch

from mmalign.model import Aligner, TowerConfig
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Batch, Inputs
from modalities.common.encoders.masking import hidden_tokens
from modalities.ecg import MODALITY

ENCODERS = {
    "patches": {"width": 8, "depth": 1, "heads": 2, "dropout": 0.2},
    "resnet": {"width": 4, "depths": [1, 1]},
}
PAIRS = [PairConfig("ecg", "ecg", "masked", {"mask_ratio": 0.5}), PairConfig("ecg", "ecg", "views")]


@pytest.fixture(params=list(ENCODERS))
def made(request: pytest.FixtureRequest) -> tuple[Aligner, Inputs]:
    """A model to pretrain, and three hearts, of which one has two leads and a lost second."""
    towers = {"ecg": TowerConfig(encoder=request.param, args=ENCODERS[request.param], head="mlp")}
    transform = MODALITY.transform(request.param, {}, steps=_steps())
    hearts = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
    inputs = transform.collate([transform.item(heart) for heart in hearts])
    inputs["lead_mask"][2, 2:] = False
    inputs["time_mask"][2, 200:] = False
    inputs["signal"] = inputs["signal"] * inputs["lead_mask"][:, :, None] * inputs["time_mask"][:, None]
    return Aligner(towers, PAIRS, 4, {"ecg": transform}), inputs


def _steps() -> list[dict[str, Any]]:
    return [{"step": "resample", "rate": 100}, {"step": "crop", "seconds": 3}, {"step": "normalise"}]


def batch(inputs: Inputs) -> Batch:
    places = torch.arange(len(inputs["signal"]))
    return Batch({"ecg": inputs}, {"ecg": places}, places, places)


def test_a_fraction_of_the_real_tokens_is_masked() -> None:
    mask = torch.tensor([[1] * 8, [1, 0] * 4, [0] * 7 + [1], [0] * 8]).bool()
    hidden = hidden_tokens(mask, 0.75)
    assert hidden.sum(1).tolist() == [6, 3, 0, 0]  # one real token is always left
    assert not (hidden & ~mask).any()
    drawn = torch.stack([hidden_tokens(mask[:1], 0.5) for _ in range(400)]).float().mean(0)
    assert drawn.sub(0.5).abs().max() < 0.12
    same = [hidden_tokens(mask, 0.5, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*same)


def test_targets_are_the_signal_of_each_token(made: tuple[Aligner, Inputs]) -> None:
    model, inputs = made
    encoder, before = model.encoders["ecg"].eval(), inputs["signal"].clone()
    seen, hidden = encoder.mask_inputs(inputs, 0.5, torch.Generator().manual_seed(0))
    tokens = encoder(inputs).tokens
    assert hidden.values.shape == (*tokens.mask.shape, encoder.target_width)
    assert not (hidden.mask & ~tokens.mask).any()
    assert torch.equal(inputs["signal"], before)
    # What is shown and what is hidden add up to the recording: nothing is lost, nothing stands in both.
    lost = (inputs["signal"] - seen["signal"]).square().sum()
    torch.testing.assert_close(hidden.values[hidden.mask].square().sum(), lost)
    torch.testing.assert_close(hidden.values.square().sum(), before.square().sum())
    assert (inputs["signal"] * seen["signal"]).sum() == seen["signal"].square().sum()


def test_masked_values_do_not_reach_the_encoder(made: tuple[Aligner, Inputs]) -> None:
    model, inputs = made
    encoder = model.encoders["ecg"].eval()
    signal = inputs["signal"].clone().requires_grad_()
    seen, _ = encoder.mask_inputs({**inputs, "signal": signal}, 0.5, torch.Generator().manual_seed(0))
    features = encoder(seen)
    (features.vector.square().sum() + features.tokens.values.square().sum()).backward()
    reached = signal.grad != 0
    blanked = (seen["signal"] == 0) & (signal != 0)
    assert blanked.any()
    assert not (reached & blanked).any()
    assert reached.any()


def test_a_step_reaches_the_encoder_and_every_head(made: tuple[Aligner, Inputs]) -> None:
    model, inputs = made
    output = model.train().loss(batch(inputs))
    output.loss.backward()
    assert {"ecg_ecg/loss", "ecg_ecg_views/feature_std", "ecg_ecg_views/prediction_cosine"} <= set(output.terms)
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_only_the_encoder_without_hidden_tokens_is_used(made: tuple[Aligner, Inputs]) -> None:
    model, inputs = made
    model.eval()
    with torch.no_grad():
        used, again = model.embed("ecg", inputs), model.embed("ecg", inputs)
        held, twice = model(batch(inputs))["ecg"], model(batch(inputs))["ecg"]
    assert used.reconstructed is None
    torch.testing.assert_close(used.vector, again.vector, rtol=0, atol=0)
    torch.testing.assert_close(
        used.vector, model.heads["ecg"].vector(model.encoders["ecg"](inputs).vector), rtol=0, atol=0
    )
    # Validation hides, and hides the same every time.
    torch.testing.assert_close(held.reconstructed.values, twice.reconstructed.values, rtol=0, atol=0)
    assert not torch.equal(held.vector, used.vector)


def test_views_differ_in_training(made: tuple[Aligner, Inputs]) -> None:
    model, inputs = made
    model.train()
    first, second = (model._views({"ecg": inputs}, ["ecg"])["ecg"] for _ in range(2))
    assert not torch.equal(first.reconstructed.mask, second.reconstructed.mask)
    assert not torch.equal(first.vector, second.vector)


def test_chunks_give_the_gradient_of_the_whole_batch(made: tuple[Aligner, Inputs]) -> None:
    """What is hidden is drawn again in backward as it was in forward. In float64: the order of the sums differs."""
    model, inputs = made[0].double(), {k: v.double() if v.is_floating_point() else v for k, v in made[1].items()}
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    chunks = [{name: value[rows] for name, value in inputs.items()} for rows in (slice(0, 1), slice(1, 3))]
    found = []
    for given in (inputs, chunks):
        model.zero_grad()
        torch.manual_seed(5)
        model.train().loss(Batch({"ecg": given}, {"ecg": torch.arange(3)}, *[torch.arange(3)] * 2)).loss.backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
