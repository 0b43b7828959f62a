"""`evaluate --task all`: the tasks that the data allow, and the reasons of those that they do not."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmalign
from mmalign.cli import main
from mmalign.model import Aligner


@pytest.fixture(scope="module")
def given(model: Aligner, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder, rng = tmp_path_factory.mktemp("all"), np.random.default_rng(0)
    mmalign.save(model, folder / "bundle")
    rows = [
        {"id": f"r{k}", "left": rng.standard_normal(8).tolist(), "words": f"{k} cats", "label": ("cat", "disc")[k % 2],
         "split": ("train", "test")[k // 40]}
        for k in range(80)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    columns = "{left: left, words: words, label: label, split: split}"
    flags = ["--data.manifest", str(folder / "rows.parquet"), "--data.columns", columns, "--pair", "[left, words]"]
    return folder, [*flags, "--split", "test", "--bootstrap", "20", "--seeds", "1", "--folds", "2", "--ways", "2"]


def test_every_task_that_the_data_allow(given: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, flags = given
    out = [
        *("--json", str(folder / "all.json")),
        *("--rows", str(folder / "rows.csv")),
        "--picture",
        str(folder / "p.png"),
    ]
    assert main(["evaluate", str(folder / "bundle"), "--task", "all", *flags, "--fractions", "1", *out]) == 0
    saved = json.loads((folder / "all.json").read_text())
    assert list(saved["results"]) == ["retrieval", "zero-shot", "probe", "few-shot", "geometry"]
    assert set(saved["skipped"]) == {"multi-label", "regression", "robustness", "grounding"}
    assert "--target" in saved["skipped"]["regression"]
    assert "zero-shot evaluates one label" in saved["skipped"]["multi-label"]
    assert "no perturbations" in saved["skipped"]["robustness"]
    assert "multi-label skipped: no record has several labels" in capsys.readouterr().out
    assert {file.name for file in folder.glob("rows-*.csv")} == {"rows-retrieval.csv", "rows-zero-shot.csv"}
    assert (folder / "p-few-shot.png").is_file()
    alone = folder / "alone.json"
    assert main(["evaluate", str(folder / "bundle"), "--task", "zero-shot", *flags[:-6], "--json", str(alone)]) == 0
    assert saved["results"]["zero-shot"]["scores"] == json.loads(alone.read_text())["scores"]
    assert len(json.loads((folder / "bundle" / "results.json").read_text())) == 6


def test_without_labels_only_retrieval_and_geometry(model: Aligner, given: tuple[Path, list[str]]) -> None:
    file = given[0] / "unlabelled.parquet"
    pq.write_table(pq.read_table(given[0] / "rows.parquet").drop_columns(["label"]), file)
    data = mmalign.DataConfig(manifest=str(file), columns={"left": "left", "words": "words"})
    done = mmalign.evaluate_all(model, data, pair=("left", "words"), split="all", bootstrap=0)
    assert list(done.results) == ["retrieval", "geometry"]
    assert "no record has a label" in done.skipped["few-shot"]
    with pytest.raises(mmalign.UserError, match="the data allow no task: few-shot: no record has a label"):
        mmalign.evaluate_all(model, data, pair=("left", "words"), tasks=["few-shot"], split="all")
    with pytest.raises(mmalign.UserError, match="--fold: no task takes this setting.*folds"):
        mmalign.evaluate_all(model, data, fold=3)
    with pytest.raises(mmalign.UserError, match="no task called 'retreival'.*retrieval"):
        mmalign.evaluate_all(model, data, tasks=["retreival"])
