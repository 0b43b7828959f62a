"""Exported towers give the model's vectors for any number of rows, or are named with the reason why they do not."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import mmalign
from mmalign import Aligner, DataConfig, Encoder, Features, PairConfig, TowerConfig, UserError, fit_transforms
from mmalign.heads import FittedVariance
from mmalign.types import Inputs

onnxruntime = pytest.importorskip("onnxruntime")


class Choosing(Encoder):
    """Control flow that depends on a value."""

    def __init__(self) -> None:
        super().__init__(16)

    def forward(self, inputs: Inputs) -> Features:
        values = inputs["values"]
        return Features(values if float(values.sum()) > 0 else -values)


@pytest.fixture(scope="module")
def vectors() -> Aligner:
    towers = {tower: TowerConfig(modality="vector", encoder="mlp", args={"width": 16, "hidden": 16}) for tower in "ab"}
    torch.manual_seed(0)
    return Aligner(towers, [PairConfig("a", "b")], 4, fit_transforms(towers, {"a": [], "b": []})).eval()


@pytest.fixture
def table(tmp_path: Path) -> DataConfig:
    """40 pairs of equal vectors."""
    rows = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    pq.write_table(pa.table({"a": rows.tolist(), "b": rows.tolist()}), tmp_path / "t.parquet")
    return DataConfig("manifest", str(tmp_path / "t.parquet"), columns={"a": "a", "b": "b"})


def test_programs_equal_the_model_for_other_numbers_of_rows(vectors: Aligner, tmp_path: Path) -> None:
    report = mmalign.export(vectors, tmp_path / "out", towers=["a"], formats=["onnx", "torch"])
    assert [(one.tower, one.format, one.file) for one in report.files] == [
        ("a", "onnx", "a.onnx"),
        ("a", "torch", "a.pt2"),
    ]
    assert all(one.max_difference is not None and one.max_difference <= 1e-6 for one in report.files)
    values = torch.randn(13, 16)
    expected = vectors.encode("a", list(values.numpy())).vector
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "a.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["vector"], {"values": values.numpy()})
    assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5)
    (again,) = torch.export.load(tmp_path / "out" / "a.pt2").module()(values)
    assert_close(again, expected, rtol=0, atol=1e-5)
    stated = json.loads((tmp_path / "out" / "export.json").read_text())
    assert stated["towers"]["a"]["inputs"] == {"values": {"type": "float32", "shape": [None, 16]}}
    assert stated["towers"]["a"]["outputs"] == {"vector": [None, 4]}
    assert stated["towers"]["a"]["transform"] == vectors.transforms["a"].config()


def test_a_fitted_variance_is_exported(vectors: Aligner, tmp_path: Path) -> None:
    model = copy.deepcopy(vectors)
    model.variances["a"] = FittedVariance(16, 4)
    with torch.no_grad():
        model.variances["a"].get_parameter("weight").copy_(torch.linspace(-1, 1, 16))
    mmalign.export(model, tmp_path / "out", formats=["onnx"])
    values = torch.randn(13, 16)
    expected = model.encode("a", list(values.numpy())).log_variance
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "a.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["log_variance"], {"values": values.numpy()})
    assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-5)
    other = onnxruntime.InferenceSession(str(tmp_path / "out" / "b.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in other.get_outputs()] == ["vector"]


def test_texts_of_any_length(model: Aligner, tmp_path: Path) -> None:
    mmalign.export(model, tmp_path, towers=["words"])
    session = onnxruntime.InferenceSession(str(tmp_path / "words.onnx"), providers=["CPUExecutionProvider"])
    transform = model.transforms["words"]
    for texts in (["a"], ["a red disc", "two cats and a dog on a very long blue mat", "b"]):
        inputs = transform.collate([transform.item(text) for text in texts])
        feed = {one.name: inputs[one.name].numpy() for one in session.get_inputs()}
        (found,) = session.run(["vector"], feed)
        assert_close(torch.from_numpy(found), model.encode("words", texts).vector, rtol=0, atol=1e-5)


def test_int8_states_what_it_loses(vectors: Aligner, table: DataConfig, tmp_path: Path) -> None:
    report = mmalign.export(vectors, tmp_path / "out", table, int8=True)
    kinds = [(one.tower, one.format) for one in report.files]
    assert kinds == [("a", "onnx"), ("a", "onnx int8"), ("b", "onnx"), ("b", "onnx int8")]
    assert all((tmp_path / "out" / one.file).stat().st_size == one.bytes > 0 for one in report.files)
    (row,) = report.int8_retrieval
    assert row["n"] == 40
    rows = pq.read_table(table.manifest).column("a").to_pylist()
    a, b = (vectors.encode(tower, rows).vector for tower in "ab")
    scores = a @ b.T
    rank = (scores > scores.diagonal()[:, None]).sum(1)
    assert row["float32 hit@1 a_to_b"] == pytest.approx(float((rank < 1).float().mean()))
    assert row["float32 hit@10 a_to_b"] == pytest.approx(float((rank < 10).float().mean()))
    assert 0 <= row["int8 hit@10 b_to_a"] <= 1


def test_a_tower_that_cannot_be_exported_is_named_with_the_reason(
    vectors: Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(vectors.encoders._modules, "b", Choosing())
    monkeypatch.setitem(vectors.heads["b"]._modules, "vector", nn.Linear(16, 4))
    report = mmalign.export(vectors, tmp_path, towers=["b"])
    (one,) = report.files
    assert (one.file, bool(one.reason)) == ("", True)
    report.show()
    assert "b (onnx): not exported: " in capsys.readouterr().out
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": ["coreml"]}, "formats: expected onnx or torch, got 'coreml'"),
        ({"towers": ["c"]}, "no tower called 'c'"),
    ],
)
def test_errors(vectors: Aligner, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mmalign.export(vectors, tmp_path, **change)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder to write"):
        mmalign.export(vectors, tmp_path / "file")
