"""Columns of a run are those of another table that has them too."""

import json
from pathlib import Path
from typing import Any

import pytest

import mmalign
from mmalign.cli import main

ENCODER = {"modality": "text", "encoder": "tfidf", "args": {"width": 8}, "transform": {}}


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of pairs of texts, with captions separated by `|`."""
    settings: dict[str, Any] = {
        "data": {"source": "manifest", "manifest": table(tmp_path / "rows.csv", "one,two", rows=24), "batch_size": 8},
        "data.columns": {"image": "one", "text": "two"},
        "data.separator": "|",
        "model.dim": 8,
        "model.towers.image": ENCODER,
        "model.towers.text": ENCODER,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
    }
    mmalign.train("image-text/demo", settings, out=tmp_path / "run")
    return str(tmp_path / "run")


def table(path: Path, header: str, *, rows: int) -> str:
    columns = header.split(",")
    lines = [",".join(f"{name} {row % 5}" for name in columns) for row in range(rows)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def results(run: str, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[dict[str, Any], str]:
    out = Path(run) / "out.json"
    assert main(["evaluate", run, "--split", "all", "--bootstrap", "0", "--json", str(out), *flags]) == 0
    return json.loads(out.read_text()), capsys.readouterr().out


def test_equal_columns_are_inherited(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    other = table(tmp_path / "other.csv", "two,kind,one", rows=15)
    found, printed = results(run, capsys, "--task", "retrieval", "--data.manifest", other)
    assert "columns as in the run: image one, text two" in printed
    assert found["scores"]["image_to_text"]["n"] == 15
    named = ["--data.columns.image", "one", "--data.columns.text", "two", "--data.separator", "|"]
    same, silent = results(run, capsys, "--task", "retrieval", "--data.manifest", other, *named)
    assert same["scores"] == found["scores"]
    assert "columns as in the run" not in silent


def test_named_columns_are_added_and_override(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = table(tmp_path / "other.csv", "one,kind", rows=15)
    flags = ["--task", "zero-shot", f"--data.manifest={other}", "--data.columns.label", "kind"]
    found, printed = results(run, capsys, *flags)
    assert "columns as in the run: image one" in printed
    assert (found["scores"]["n"], found["scores"]["classes"]) == (15, 5)


def test_other_columns_are_listed(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = table(tmp_path / "other.csv", "first,second", rows=5)
    assert main(["evaluate", run, "--data.manifest", other]) == 2
    assert "--data.columns.image" in capsys.readouterr().err
    assert main(["evaluate", run, "--data.manifest", other, "--data.columns.image", "frst"]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
