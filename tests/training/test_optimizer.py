import math

import pytest
import torch

from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.training.optimizer import OptimizerConfig, build, factor_at, parameter_groups


def aligner(**left: object) -> Aligner:
    towers = {
        "left": TowerConfig(modality="vector", encoder="mlp", args={"width": 6}, **left),  # type: ignore[arg-type]
        "right": TowerConfig(modality="vector", encoder="mlp", args={"width": 6}),
    }
    return Aligner(towers, [PairConfig("left", "right")], 4, fit_transforms(towers, {"left": [], "right": []}))


def test_weight_decay_applies_to_matrices_only() -> None:
    model = aligner()
    decayed, plain = parameter_groups(model, OptimizerConfig(weight_decay=0.3))
    assert decayed["weight_decay"] == 0.3
    assert plain["weight_decay"] == 0.0
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])  # type: ignore[attr-defined]
    scale = dict(model.named_parameters())["objective.objectives.0.log_scale"]
    assert any(parameter is scale for parameter in plain["params"])  # type: ignore[attr-defined]
    both = [id(p) for group in (decayed, plain) for p in group["params"]]  # type: ignore[attr-defined]
    assert sorted(both) == sorted(id(p) for p in model.parameters())


def test_frozen_encoders_are_not_in_the_optimiser() -> None:
    model = aligner(freeze=True)
    model.freeze(epoch=0)
    held = {id(p) for group in parameter_groups(model, OptimizerConfig()) for p in group["params"]}  # type: ignore[attr-defined]
    assert not held & {id(p) for p in model.encoders["left"].parameters()}
    assert {id(p) for p in model.heads["left"].parameters()} <= held


def test_freeze_patterns_and_unfreezing() -> None:
    model = aligner(freeze=True, trainable=["*.bias"], unfreeze_epoch=3)
    model.freeze(epoch=2)
    for name, parameter in model.encoders["left"].named_parameters():
        assert parameter.requires_grad == name.endswith(".bias")
    model.train()
    assert not model.encoders["left"].training
    assert model.encoders["right"].training
    held = {id(p) for group in parameter_groups(model, OptimizerConfig()) for p in group["params"]}  # type: ignore[attr-defined]
    assert {id(p) for p in model.encoders["left"].parameters()} <= held, "they will train from epoch 3"
    model.freeze(epoch=3)
    assert all(parameter.requires_grad for parameter in model.encoders["left"].parameters())
    assert model.encoders["left"].training


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match=r"towers\.left\.trainable.*blocks"):
        aligner(freeze=True, trainable=["blocks.9.*"]).freeze(epoch=0)


def test_schedule() -> None:
    config = OptimizerConfig(warmup=0.1, final=0.2)
    factors = [factor_at(step, 100, config) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert factors[100] == pytest.approx(0.2)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_lr_scale_is_per_tower() -> None:
    optimizer, _ = build(aligner(lr_scale=0.1), OptimizerConfig(lr=1.0, warmup=0), lambda step: (step, 10))
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    model_rates = sorted(set(rates.values()))
    assert model_rates == pytest.approx([0.1, 1.0])


def test_frozen_statistics_do_not_move() -> None:
    towers = {
        "image": TowerConfig(encoder="convnet", args={"width": 4, "depths": [1]}, transform={"size": 8}, freeze=True),
        "text": TowerConfig(args={"width": 8, "depth": 1, "heads": 1}),
    }
    transforms = fit_transforms(towers, {"image": [], "text": ["one two", "three"]})
    model = Aligner(towers, [PairConfig("image", "text")], 4, transforms)
    model.freeze(epoch=0)
    model.train()
    before = {name: value.clone() for name, value in model.encoders["image"].state_dict().items()}
    inputs = {"pixels": torch.randint(0, 255, (4, 3, 8, 8), dtype=torch.uint8)}
    assert not model.encoders["image"](inputs).vector.requires_grad
    model.embed("image", inputs).vector.sum().backward()
    assert all(torch.equal(before[name], value) for name, value in model.encoders["image"].state_dict().items())
    assert model.heads["image"].vector.layers.weight.grad is not None  # type: ignore[union-attr]
