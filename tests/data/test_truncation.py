"""Truncated texts are counted by every command, and recorded."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmalign
from mmalign.cli import main
from mmalign.data import truncation
from mmalign.data.config import DataConfig
from modalities.text.tokenizers.bpe import train_bpe
from tests.training.small_run import SMALL

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


def test_embed_encode_prompts_and_classify_warn_once(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truncation, "_WARNED", set())
    settings = {"data.manifest": table, "data.files": tmp_path, "data.source": "manifest", "data.batch_size": 8}
    settings |= {"data.columns.image": "image", "data.columns.text": "text", "data.validation": 0.25}
    model = mmalign.train("image-text/demo", {**SMALL, **settings, "trainer.max_epochs": 1}, out=tmp_path / "run").model
    config = DataConfig("manifest", str(table), str(tmp_path), columns={"image": "image", "text": "text"})
    caplog.clear()
    with caplog.at_level(logging.WARNING, "mmalign"):
        mmalign.embed(model, config, "text")
        for _ in range(2):
            model.encode("text", ["short", LONG, LONG])
        mmalign.classify(model, [tmp_path / "0.png"], ["a", "b", "c", LONG])
        model.encode("text", ["short"])
        model.encode("image", [tmp_path / "0.png"])
    lines = [record.getMessage().partition(" samples are longer")[0] for record in caplog.records]
    assert lines == ["text: 10 of 40", "text: 2 of 3", "text: 1 of 4"]


def test_an_equal_text_is_tokenised_once() -> None:
    class Counting:
        truncation, calls = "3 letters", 0

        def truncates(self, sample: str) -> bool:
            self.calls += 1
            return len(sample) > 3

    transform: Any = Counting()
    found = truncation.truncated("text", transform, ["abcd", "a", "abcd", "a", "abcd"])
    assert (found.samples, found.total, transform.calls) == (3, 5, 2)


@pytest.mark.parametrize("iupac", [False, True])
def test_short_texts_are_judged_without_the_tokenizer(iupac: bool) -> None:
    bpe = train_bpe(["zzzz"], vocab_size=258, max_length=12, iupac=iupac)
    rng = np.random.default_rng(0)
    for _ in range(300):
        text = "".join(rng.choice(list("aZ 7,-(]~\n\t"), size=rng.integers(0, 24)))
        assert bpe.truncates(text) == (len(bpe.tokenizer.encode(text, add_special_tokens=False).ids) > 11)
    assert bpe.truncates("\ufdfa")  # one letter that is normalised to 18


def test_short_texts_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    report = mmalign.check(DataConfig("digits"))
    assert report.truncated == []
    assert caplog.text == ""
