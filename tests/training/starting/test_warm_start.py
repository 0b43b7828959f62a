"""An encoder that goes on from a bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mmalign
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.training.starting.warm_start import load_warm_start

ARGS = {"width": 4, "hidden": 3}


def saved(folder: Path, *names: str) -> Path:
    towers = {name: TowerConfig(modality="vector", encoder="mlp", args=ARGS) for name in names}
    samples = {name: [np.arange(4.0) + place for place in range(5)] for name in names}
    model = Aligner(towers, [PairConfig(names[0], names[-1], "clip")], 2, fit_transforms(towers, samples))
    return mmalign.save(model, folder)


def test_architecture_preprocessing_and_weights_come_from_the_bundle(tmp_path: Path) -> None:
    bundle = saved(tmp_path, "x", "y")
    tower = TowerConfig(modality="vector", weights=str(bundle), head="mlp", lr_scale=0.1)
    known, model = load_warm_start("y", tower), mmalign.load(bundle)
    assert (known.tower.encoder, known.tower.head, known.tower.lr_scale) == ("mlp", "mlp", 0.1)
    assert known.transform.config() == model.transforms["y"].config()
    towers = {"y": known.tower, "z": TowerConfig(modality="vector", args={"width": 4})}
    transforms = fit_transforms(towers, {"y": [], "z": []}, fitted={"y": known.transform})
    assert transforms["y"] is known.transform
    fresh = Aligner(towers, [PairConfig("y", "z")], 2, transforms)
    known.fill(fresh.encoders["y"])
    for key, value in model.encoders["y"].state_dict().items():
        assert torch.equal(fresh.encoders["y"].state_dict()[key], value)
    assert "weights" not in fresh.config()["towers"]["y"]


def test_a_tower_of_another_name_is_used_if_it_is_the_only_one(tmp_path: Path) -> None:
    known = load_warm_start("left", TowerConfig(modality="vector", weights=str(saved(tmp_path, "x"))))
    assert known.tower.args["hidden"] == 3


def test_invalid_settings_are_named(tmp_path: Path) -> None:
    bundle = str(saved(tmp_path / "two", "x", "y"))
    with pytest.raises(UserError, match=r"towers.left.weights: expected a tower of 'vector'.*got x \(vector\), y"):
        load_warm_start("left", TowerConfig(modality="vector", weights=bundle))
    with pytest.raises(UserError, match="expected a tower of 'text'"):
        load_warm_start("x", TowerConfig(modality="text", weights=bundle))
    with pytest.raises(UserError, match="weights of the encoder 'linear', got those of 'mlp'; set --model.towers"):
        load_warm_start("x", TowerConfig(modality="vector", encoder="linear", weights=bundle))
    with pytest.raises(UserError, match="no bundle at"):
        load_warm_start("x", TowerConfig(modality="vector", weights=str(tmp_path / "none")))
    wider = load_warm_start("x", TowerConfig(modality="vector", weights=bundle, args={"hidden": 9}))
    towers = {"x": wider.tower}
    model = Aligner(towers, [PairConfig("x", "x")], 2, {"x": wider.transform})
    with pytest.raises(UserError, match=r"do not fit this encoder: .*\(9, 4\) here, .*\(3, 4\) there.*leave `args`"):
        wider.fill(model.encoders["x"])
