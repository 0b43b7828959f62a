"""The source `pyg`: what `InMemoryDataset.save` wrote, and files that must not run anything."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import mmalign
from mmalign import DataConfig, Dataset, UserError
from modalities.graph import MODALITY
from modalities.molecule import MODALITY as MOLECULE

pyg_data = pytest.importorskip("torch_geometric.data")
utils = pytest.importorskip("torch_geometric.utils")

SMILES = ("CCO", "C", "c1ccccc1O", "CC(=O)[O-]")


def graphs() -> list[Any]:
    made = [utils.from_smiles(smiles) for smiles in SMILES]
    for index, graph in enumerate(made):
        graph.y, graph.text = torch.tensor([index % 2]), f"molecule {index}"
        graph.properties = torch.tensor([[float(index), 0.5]])
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "processed").mkdir()
    pyg_data.InMemoryDataset.save(graphs(), str(tmp_path / "processed" / "data.pt"))
    torch.save({}, tmp_path / "processed" / "pre_filter.pt")
    return tmp_path


def opened(path: Path, **columns: str) -> Dataset:
    config = DataConfig("pyg", str(path), columns=columns, validation=0.0)
    towers = [name for name in columns if name not in ("label", "id", "split")]
    return Dataset.open(config, {tower: mmalign.modality_of(tower, mmalign.TowerConfig()) for tower in towers})


def test_graphs_molecules_and_texts_of_a_saved_data_set(folder: Path) -> None:
    data = opened(folder, graph="graph", molecule="smiles", text="text", vector="properties", label="y")
    assert [record.labels for record in data.records] == [("0",), ("1",), ("0",), ("1",)]
    train = data.split("train")
    for graph, expected in zip(train.samples("graph"), graphs(), strict=True):
        assert graph == MODALITY.read(expected)
    for molecule, smiles, graph in zip(train.samples("molecule"), SMILES, graphs(), strict=True):
        assert molecule == MOLECULE.read(smiles) == MOLECULE.read(graph)
    assert list(train.samples("text"))[2] == "molecule 2"
    assert list(train.samples("vector"))[3].tolist() == [3.0, 0.5]
    same = opened(folder / "processed" / "data.pt", graph="graph")
    assert same.source.fingerprint() == data.source.fingerprint()


def test_files_of_splits(folder: Path) -> None:
    (folder / "processed" / "data.pt").rename(folder / "processed" / "train.pt")
    pyg_data.InMemoryDataset.save(graphs()[:1], str(folder / "processed" / "val.pt"))
    data = opened(folder, graph="graph")
    assert [record.split for record in data.records] == ["train"] * 4 + ["validation"]
    assert list(data.split("validation").samples("graph")) == [MODALITY.read(graphs()[0])]
    torch.save({}, folder / "processed" / "other.pt")
    with pytest.raises(UserError, match=r"got other.pt, train.pt, val.pt; name one file"):
        opened(folder, graph="graph")


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch attacked",)


def test_file_with_pickled_code_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = folder / "processed" / "data.pt"
    torch.save(({"x": _Attack()}, {}, _Attack), path)
    with pytest.raises(UserError, match=r"got other objects .*GLOBAL") as caught:
        opened(folder, graph="graph")
    assert "\n" not in str(caught.value)
    path.write_bytes(pickle.dumps(_Attack()))
    with pytest.raises(UserError, match="not a zip file"):
        opened(folder, graph="graph")
    assert not (folder / "attacked").exists()
    torch.save(pyg_data.InMemoryDataset.collate(graphs()), path)  # as older versions saved it
    with pytest.raises(UserError, match="save the data set again with a recent PyTorch Geometric"):
        opened(folder, graph="graph")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data, slices: slices.update(x=torch.tensor([0, 3, 2, 4, 5])), "bounds of 'x' are not ascending"),
        (lambda data, slices: slices.update(x=torch.tensor([0, 1, 2, 3, 10**9])), "bounds of 'x' are not ascending"),
        (lambda data, slices: slices.update(x=torch.tensor([0, 1])), r"attributes of \[1, 4\] graphs"),
        (lambda data, slices: slices.clear(), "attributes of no graphs"),
        (lambda data, slices: data.pop("smiles"), "no column 'smiles'"),
        (lambda data, slices: data.update(smiles=torch.zeros(1).expand(10**12)), "no column 'smiles'"),
    ],
)
def test_contradictory_files_are_refused(folder: Path, change: Any, message: str) -> None:
    path = folder / "processed" / "data.pt"
    with torch.serialization.safe_globals([pyg_data.Data]):
        data, slices, kind = torch.load(path, weights_only=True)
    change(data, slices)
    torch.save((data, slices, kind), path)
    with pytest.raises(UserError, match=message):
        opened(folder, molecule="smiles")


def test_an_edge_outside_its_graph_rejects_only_that_graph(folder: Path) -> None:
    wrong = graphs()
    wrong[2].edge_index = wrong[2].edge_index + 100
    pyg_data.InMemoryDataset.save(wrong, str(folder / "processed" / "data.pt"))
    data = DataConfig("pyg", str(folder), columns={"graph": "graph"}, validation=0.0, max_rejected=0.5)
    found = Dataset.open(data, {"graph": MODALITY}).split("train")
    assert len(list(found.samples("graph"))) == 3


def test_a_molecule_needs_its_smiles() -> None:
    from mmalign import BadSample

    graph = graphs()[0]
    del graph.smiles
    with pytest.raises(BadSample, match="in `smiles`.*got one with edge_attr, edge_index, properties, text"):
        MOLECULE.read(graph)
    with pytest.raises(BadSample, match="got several"):
        MOLECULE.read(pyg_data.Batch.from_data_list(graphs()))


def test_missing_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected data.pt, or train.pt, val.pt and test.pt, got none"):
        opened(tmp_path, graph="graph")
    with pytest.raises(UserError, match="needs a folder"):
        Dataset.open(DataConfig("pyg", columns={"graph": "graph"}), {"graph": MODALITY})
