"""What the fuzzer has found in bundles, checkpoints, recipes and embedded tables, each with a short input."""

import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmalign
from mmalign import registry
from mmalign.bundles import bundle
from mmalign.bundles.parameter_bound import bounded_parameters
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.training.checkpoints.resume import read_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    towers = {name: TowerConfig(modality="vector", encoder="mlp", args={"width": 4, "hidden": 4}) for name in "ab"}
    transforms = fit_transforms(towers, {key: [] for key in "ab"})
    return bundle.save(Aligner(towers, [PairConfig("a", "b")], 2, transforms), tmp_path / "bundle")


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_bundle_of_more_weights_than_its_file(saved: Path) -> None:
    """Refused before they are allocated."""
    edited(saved, lambda config: config["model"]["towers"]["a"]["args"].update(hidden=10_000_000))
    with pytest.raises(UserError, match="a model of at most"):
        mmalign.load(saved)
    layer = torch.nn.Linear(2000, 2000)
    assert len(layer.weight) == 2000, "the bound ends with its context"
    with pytest.raises(UserError, match="a larger one"), bounded_parameters(100, "config.json"):
        torch.nn.Linear(3000, 3000)


@pytest.mark.parametrize("modality", ["bag", "echo", "molecule", "pointcloud"])
def test_a_bundle_with_statistics_of_another_size(modality: str, tmp_path: Path) -> None:
    encoder = {"bag": "members", "molecule": "fingerprints"}.get(modality, "features")
    args: dict[str, Any] = {"bag": {}, "molecule": {"width": 4, "graph": 1, "fingerprint": 2048}}.get(
        modality, {"width": 4}
    )
    towers = {name: TowerConfig(modality=modality, encoder=encoder, args=args) for name in "ab"}
    toys = [registry.load("modalities", modality).toy_sample(label, np.random.default_rng(label)) for label in (0, 1)]
    model = Aligner(towers, [PairConfig("a", "b")], 4, fit_transforms(towers, dict.fromkeys("ab", toys)))
    folder = bundle.save(model, tmp_path / "bundle")
    edited(folder, lambda config: config.pop("files"))
    mmalign.load(folder)
    file = folder / "transforms" / "a.json"
    saved = json.loads(file.read_text())
    wrong: dict[str, Any] = {
        "bag": {},
        "echo": {**saved, "statistics": {"mean": [0.0], "sd": [1.0]}},
        "molecule": {**saved, "scales": {"groups": [[0.0], [1.0]]}},
        "pointcloud": {**saved, "statistics": {"quantiles": [[0.0]], "mean": [[0.0]]}},
    }
    file.write_text(json.dumps(wrong[modality]))
    with pytest.raises(UserError, match="not a bundle's configuration|expected"):
        mmalign.load(folder)


def test_a_pipe_in_a_bundle(saved: Path) -> None:
    edited(saved, lambda config: config.pop("files"))
    (saved / "transforms" / "a.json").unlink()
    os.mkfifo(saved / "transforms" / "a.json")
    with pytest.raises(UserError, match="a device or a pipe"):
        mmalign.load(saved)


def test_a_scale_that_is_not_finite(saved: Path) -> None:
    model = mmalign.load(saved)
    state = model.state_dict()
    name = next(key for key in state if key.endswith("log_scale"))
    for value in (1e30, -1e30):
        with pytest.raises(UserError, match="a learnt scale above 0 and finite"):
            model.load_state_dict({**state, name: torch.tensor([value])})


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="got a file with a list"):
        read_checkpoint(path)
    torch.save({"mmalign": 3}, path)
    with pytest.raises(UserError, match="not written by mmalign"):
        read_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"]\xff" if name.endswith(".storage_alignment") else content)
    with pytest.raises(UserError, match="got a damaged or another file"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model["towers"]["a"].update(args=1e308), "towers.a.args: expected a mapping"),
        (lambda model: model["towers"]["a"].update(args=None), "towers.a.args: expected a mapping"),
        (lambda model: model["towers"]["a"]["args"].update(width="4"), "args.width: expected a whole number"),
        (lambda model: model["towers"]["a"]["args"].update(width=-4), "vectors of width -4"),
        (lambda model: model["towers"]["a"].update(modality=5), "modality: expected text"),
        (lambda model: model["towers"]["a"].update(modality="nothing"), "no modality called 'nothing'"),
        (lambda model: model["pairs"][0]["args"].update(max_scale=float("nan")), "finite numbers, got NaN"),
        (lambda model: model["pairs"][0].update(weight="1"), "weight: expected a number"),
        (lambda model: model.pop("pairs"), "expected model.pairs, got none"),
        (lambda model: model.update(dim=0), "dim to be at least 1"),
        (lambda model: model.update(dim=True), "dim: expected a whole number"),
        (lambda model: model["codebook"].update(codes=2.5), "codebook.codes: expected a whole number"),
    ],
)
def test_a_value_of_another_type_in_a_bundle(saved: Path, change: Callable[[Any], Any], message: str) -> None:
    """One line that names the file and the key."""
    edited(saved, lambda config: change(config["model"]))
    with pytest.raises(UserError, match=message) as caught:
        mmalign.load(saved)
    assert str(caught.value).startswith(f"{saved / 'config.json'}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_a_number_that_is_not_finite_in_a_bundle(saved: Path, number: str) -> None:
    edited(saved, lambda config: config.pop("files"))
    file = saved / "transforms" / "a.json"
    file.write_text(file.read_text().replace("0.0", number))
    with pytest.raises(UserError, match=rf"a\.json: expected JSON, got expected finite numbers, got {number}"):
        mmalign.load(saved)


def test_a_bundle_is_never_written_with_such_a_number(saved: Path) -> None:
    model = mmalign.load(saved)
    bundle.save(model, saved, provenance={"selected": {"value": float("inf")}})
    assert mmalign.load(saved).provenance == {"selected": {"value": None}}
    model.transforms["a"].noise = float("nan")  # type: ignore[attr-defined]
    before = (saved / "transforms" / "a.json").read_bytes()
    with pytest.raises(UserError, match="expected finite settings and statistics"):
        bundle.save(model, saved)
    assert (saved / "transforms" / "a.json").read_bytes() == before


def test_finite_weights_that_give_nan(saved: Path) -> None:
    """Weights near the largest float are finite, their products are not."""
    model = mmalign.load(saved)
    with torch.no_grad():
        for parameter in model.encoders["a"].parameters():
            parameter.fill_(3e38)
    with pytest.raises(UserError, match="tower 'a': expected finite embeddings, got NaN or infinity in 1 of 1"):
        model.encode("a", [np.ones(4, np.float32)])


@pytest.mark.parametrize("fields", [{"integer": 1.5}, {"second": [0.0, 0.0]}, {"first": [0.0]}, {"first": "ab"}])
def test_damaged_statistics_of_graphs(fields: dict[str, Any]) -> None:
    graph = registry.load("modalities", "graph")
    floats = {"integer": False, "first": [0.0, 1.0], "second": [1.0, 1.0]}
    config = {"node_dropout": 0.0, "nodes": floats, "edges": floats, "degrees": [1, 2]}
    graph.restore_transform(config)
    with pytest.raises(UserError, match="graph transform"):
        graph.restore_transform({**config, "nodes": {**floats, **fields}})


def test_a_standard_deviation_that_is_zero_in_float32() -> None:
    with pytest.raises(UserError, match="std must be positive"):
        registry.load("modalities", "image").restore_transform({"std": [1e-308, 0.5, 0.5]})


def with_protocol(path: Path, number: int) -> None:
    """Another version in the pickle of a file of `torch.save`, with its checksum made right again."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"\x80" + bytes([number]) + content[2:] if name.endswith("data.pkl") else content)


def test_torch_does_not_warn_of_a_file_that_is_refused_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmalign.safe_io.tensor_files import load_tensors
    from modalities.common.encoders.safe_weights import read_weights

    torch.save({"scale": torch.ones(2)}, tmp_path / "a.pt")
    with_protocol(tmp_path / "a.pt", 66)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_weights(tmp_path / "a.pt")["scale"].tolist() == [1.0, 1.0]
        with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
            pickled = archive.read("a/data.pkl")
        for content in (pickled[:20], b"\x80\x42" + bytes(range(40))):
            with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
                archive.writestr("b/data.pkl", content)
                archive.writestr("b/version", b"3\n")
            with pytest.raises(UserError, match="cannot read weights"):
                read_weights(tmp_path / "b.pt")
    assert not caught

    def loud(*_: Any, **__: Any) -> Any:
        warnings.warn("of interest", UserWarning, stacklevel=2)
        return {}

    monkeypatch.setattr(torch, "load", loud)
    with pytest.warns(UserWarning, match="of interest"):
        load_tensors(tmp_path / "a.pt")


def test_an_embedded_table_with_a_column_that_is_not_utf8(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mmalign.data.config import DataConfig
    from mmalign.data.dataset import Dataset
    from mmalign.embedding.table import EmbeddingTable

    pq.write_table(pa.table({"colour": ["red"], "text": ["a"]}), tmp_path / "t.parquet", store_schema=False)
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data.replace(b"colour", b"col\x90ur"))
    with pytest.raises(UserError, match=r"t\.parquet: expected a Parquet or Arrow file"):
        EmbeddingTable.read(tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: expected Parquet"):
        Dataset.open(
            DataConfig("manifest", str(tmp_path / "t.parquet"), columns={"text": "text"}),
            {"text": registry.load("modalities", "text")},
        )


@pytest.mark.parametrize("settings", [{"lr": -0.5}, {"beta1": 1.0}, {"eps": float("nan")}, {"warmup": -1}])
def test_settings_of_the_optimiser_out_of_range(settings: dict[str, Any]) -> None:
    from mmalign.training.build import ModelConfig
    from mmalign.training.optimizer import OptimizerConfig

    towers = {name: TowerConfig(modality="vector") for name in "ab"}
    with pytest.raises(UserError, match=rf"model\.optimizer\.{next(iter(settings))}: expected a number of at least 0"):
        ModelConfig(towers, [PairConfig("a", "b")], optimizer=OptimizerConfig(**settings))


def test_groups_of_points_that_no_memory_holds() -> None:
    pointcloud = registry.load("modalities", "pointcloud")
    transform = pointcloud.transform("pointnet2", {})
    cases = {
        "pointnet2": {"groups": [2**63, 4]},
        "point_transformer": {"groups": 2**40},
        "openshape": {"group_size": 0},
    }
    for encoder, args in cases.items():
        with pytest.raises(UserError, match=f"pointcloud {encoder}: expected"):
            pointcloud.encoder(encoder, transform, **args)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("args: {hidden: 8}", "args: null", ""),
        ("args: {hidden: 8}", "transform: null", ""),
        ("args: {initial_scale: 10.0}", "args: null", ""),
        ("modality: vector", "modality: 1000000", "no modality called '1000000'|name of a modality"),
        ("args: {hidden: 8}", f"args: {{hidden: 8, dropout: {10**400}}}", "dropout: expected a number"),
        (
            "trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false}",
            "trainer: [null]",
            "trainer: expected",
        ),
        ("lr: 0.001", "lr: -0.5", "model.optimizer.lr: expected a number of at least 0"),
    ],
)
def test_values_of_another_kind_in_a_recipe(old: str, new: str, message: str, tmp_path: Path) -> None:
    """A key without a value is an empty dictionary; other values are refused by name."""
    from tests.fuzz.targets.models import RECIPE, use_recipe_keys

    recipe = tmp_path / "r.yaml"
    assert old in RECIPE
    recipe.write_text(RECIPE.replace(old, new, 1))
    if not message:
        use_recipe_keys(recipe)
        return
    with pytest.raises(UserError, match=message):
        use_recipe_keys(recipe)


def test_a_recipe_with_layers_of_negative_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz.targets.models import RECIPE, use_recipe

    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE.replace("hidden: 8", "hidden: -8"))
    with pytest.raises(
        UserError, match="encoder 'mlp' of modality 'vector' with .*hidden=-8 cannot be built: .*negative dimension -8"
    ):
        use_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden: 8", "hidden: 0", "encoder 'mlp' of modality 'vector' with .*at least one weight, got Linear"),
        ("width: 8", "width: 0", "heads must divide width, got heads=2 and width=0|at least one weight"),
        ("heads: 2", "heads: -2", "heads must divide width, got heads=-2"),
        ("heads: 2", "heads: 0", "heads must divide width, got heads=0"),
        ("depth: 1", "depth: -1", "expected a depth of at least 0"),
        ("dim: 8", "dim: 0", "dim|at least one weight"),
    ],
)
def test_a_recipe_with_layers_of_size_zero(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before training, without a warning of torch."""
    from tests.fuzz.targets.models import RECIPE, use_recipe

    monkeypatch.chdir(tmp_path)
    assert old in RECIPE
    (tmp_path / "r.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(UserError, match=message):
        use_recipe(tmp_path / "r.yaml")


def test_a_bundle_with_layers_of_size_zero(saved: Path) -> None:
    edited(saved, lambda config: config["model"]["towers"]["a"]["args"].update(hidden=0))
    with pytest.raises(UserError, match="config.json: encoder 'mlp' of modality 'vector' with .*got Linear"):
        mmalign.load(saved)


def test_statistics_beyond_single_precision() -> None:
    from modalities.common.reading.numbers import stated_table

    with pytest.raises(UserError, match="one above 1e"):
        stated_table([1e308, 0.0], (2,), "the mean")
