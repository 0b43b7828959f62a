"""What the fuzzer has found, each with a short input: refused in one line, and without a word of a library."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmalign
from mmalign import bundle, registry
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.files.open import open_store
from mmalign.data.sources.base import SourceConfig
from mmalign.errors import BadSample, UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.parameter_bound import bounded_parameters
from mmalign.training.resume import read_checkpoint
from tests.fuzz.seeds.reading import TESTS

assert TESTS  # the path of the golden files


def refused(modality: str, source: Any, caplog: pytest.LogCaptureFixture | None = None) -> str:
    reader = registry.load("modalities", modality)
    with pytest.raises(BadSample) as caught:  # and no warning, which would be an error
        reader.read(source)
    assert "\n" not in str(caught.value)
    assert caplog is None or not caplog.records, "a library has logged something"
    return str(caught.value)


@pytest.mark.parametrize("path", ["x" * 5000, "a/" * 3000, "a\0b", "", ".", "/", "/dev/null", "x" * 252, "~none/x"])
@pytest.mark.parametrize("modality", sorted(registry.names("modalities")))
def test_paths_that_cannot_be_opened(modality: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suffix = {"ecg": ".npy", "molecule": ".mol"}.get(modality, "")
    if modality != "text":
        refused(modality, path + suffix)
        refused(modality, Path(path))


@pytest.mark.parametrize("name", ["x" * 5000, "a" * 300 + "/b.png"])
def test_names_that_the_system_does_not_take(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadSample):
        open_store(tmp_path).fetch(name)


def test_a_graph_of_fewer_than_no_nodes() -> None:
    for count in (-1, 0):
        assert "1 to" in refused("graph", {"edge_index": np.zeros((2, 0), np.int64), "num_nodes": count})


def test_names_that_are_not_unicode() -> None:
    """Python's regular expressions raise a SystemError on them."""
    leads = np.array(["I", "II"])
    leads.view(np.uint32)[0] = 0x110000
    stream = io.BytesIO()
    np.savez(stream, signal=np.random.default_rng(0).normal(size=(2, 500)), rate=500, units="mV", leads=leads)
    assert "not Unicode" in refused("ecg", stream.getvalue())


def test_numbers_beyond_their_type_raise_no_warning() -> None:
    for values in (np.full((2, 500), np.inf, np.float16), np.full((2, 500), 1e308)):
        refused("ecg", {"signal": values, "rate": 500, "units": "uV", "leads": ["I", "II"]})
    stream = io.BytesIO()
    np.save(stream, np.array([1e308, np.nan]))
    refused("vector", stream.getvalue())
    refused("bag", stream.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"v 1 2\nv 3 4\nv 5 6\nf 1 2 3\n",
        b"OFF\n3 1 0\n0 0 nan\n1 0 0\n0 1 0\n3 0 1 2\n",
        b"solid x\nfacet normal 0 0\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nendloop\nendfacet\nendsolid\n",
        b"x y z\n",
    ],
    ids=["two-coordinates", "nan", "half-a-normal", "no-rows"],
)
def test_meshes_that_are_none(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    refused("pointcloud", data, caplog)


@pytest.mark.parametrize("chunks", [0xFFFFFFFF, 0x7FFFFFFF, -1])
def test_a_laz_table_of_billions_of_chunks(chunks: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The decoder would reserve memory for all of them, and end the process where there is none."""
    import golden_clouds as golden

    points, _, _ = golden.cloud()
    data = bytearray(golden.cloud_las(tmp_path, "laz", points, None))
    start = int.from_bytes(data[96:100], "little")
    table = int.from_bytes(data[start : start + 8], "little")
    if chunks < 0:
        data[start : start + 8] = (len(data) + 5).to_bytes(8, "little")
    else:
        data[table + 4 : table + 8] = chunks.to_bytes(4, "little")
    assert "table of compressed chunks" in refused("pointcloud", bytes(data), caplog)


def test_a_pipe_in_a_published_data_set(tmp_path: Path) -> None:
    from tests.modalities.pointcloud.test_published import pointnet_release

    pointnet_release(tmp_path)
    for name in ("ply_data_test0.h5", "shape_names.txt"):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=name):
            registry.load("sources", "modelnet40")(SourceConfig(source="modelnet40", manifest=str(tmp_path)))
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(kept)


def test_a_saved_data_set_with_a_damaged_name(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(2)}, tmp_path / "data.pt")
    data = bytearray((tmp_path / "data.pt").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 9] |= 8  # the name is UTF-8
    data[entry + 46] = 0xFF
    (tmp_path / "data.pt").write_bytes(data)
    with pytest.raises(UserError, match=r"data\.pt: expected"):
        registry.load("sources", "pyg")(SourceConfig(source="pyg", manifest=str(tmp_path)))


def test_a_class_without_a_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {"t": ["a", "b"], "label": [0, 1]}
    kinds = {"t": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])}
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(str(tmp_path / "d"))
    info = tmp_path / "d" / "dataset_info.json"
    info.write_text(info.read_text().replace('"cat",', ""))
    config = DataConfig("datasets", str(tmp_path / "d"), columns={"text": "t", "label": "label"})
    with pytest.raises(UserError, match=r"classes 0\.\.0 in column 'label', got 1"):
        Dataset.open(config, {"text": registry.load("modalities", "text")})


def test_smiles_of_the_corpus_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("CID\tSMILES\tdescription\n1\tCCO\tit is a spirit\n")
    (tmp_path / "align_smiles.txt").write_bytes(b"C\xff\n")
    source = registry.load("sources", "pcdes")(SourceConfig("pcdes", str(tmp_path)))
    with pytest.raises(UserError, match="SMILES a line in UTF-8"):
        source.corpus("molecule")


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
