"""Truncated texts are counted by check, train and evaluate, and recorded."""

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

import mmalign
from mmalign.cli import main
from mmalign.data.config import DataConfig

LONG = "a very long report about many things seen " * 20


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 pictures, of which every fourth has a long text."""
    rows = ["image,text"]
    for number in range(40):
        Image.new("RGB", (16, 16), (6 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{LONG if number % 4 == 0 else ''}picture {number}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "t.csv"


def test_check_train_and_evaluate_count_them(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"image": "image", "text": "text"}
    config = DataConfig("manifest", manifest=str(table), files=str(tmp_path), validation=0.25, columns=columns)
    report = mmalign.check(config)
    assert [(one.tower, one.samples, one.total) for one in report.truncated] == [("text", 10, 40)]
    report.show()
    assert "10 of 40 samples are longer than 64 word pieces" in " ".join(capsys.readouterr().out.split())
    assert report.to_json()["truncated"][0]["samples"] == 10

    flags = {"source": "manifest", "manifest": table, "files": tmp_path, "validation": 0.25, "batch_size": 8}
    flags |= {f"columns.{name}": name for name in columns}
    arguments = [f"--data.{key}={value}" for key, value in flags.items()]
    out = tmp_path / "run"
    with caplog.at_level(logging.WARNING, "mmalign"):
        assert main(["train", "image-text/demo", *arguments, "--trainer.max_epochs=1", f"--out={out}"]) == 0
    assert "text: 10 of 40 samples are longer than" in caplog.text
    provenance = json.loads((out / "bundle" / "config.json").read_text())["provenance"]
    assert provenance["truncated"]["text"]["samples"] == 10

    caplog.clear()
    with caplog.at_level(logging.WARNING, "mmalign"):
        result = mmalign.evaluate(out, config, bootstrap=0, split="all")
    assert "text: 10 of 40 samples" in caplog.text
    assert result.provenance["truncated"]["text"] == provenance["truncated"]["text"]


def test_short_texts_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    report = mmalign.check(DataConfig("digits"))
    assert report.truncated == []
    assert caplog.text == ""
