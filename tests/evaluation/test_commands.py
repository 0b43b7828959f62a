"""Each task from the command line: a small probabilistic bundle, a table with labels and numbers, a picture."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import mmalign
from mmalign.cli import main
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A bundle, and the flags of its data: three rows a patient, labels, and a number with gaps."""
    torch.manual_seed(0)
    folder, rng = tmp_path_factory.mktemp("given"), np.random.default_rng(0)
    towers = {
        "heart": TowerConfig(modality="vector", args={"width": 8}),
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    words = ["a weak heart", "no weak heart", "ejection fraction 20", "30 %"]
    transforms = fit_transforms(towers, {"heart": [], "text": words * 10})
    mmalign.save(Aligner(towers, [PairConfig("heart", "text", "pcmepp")], 8, transforms), folder / "bundle")
    rows = []
    for place in range(120):
        fraction = float(rng.integers(20, 70))
        rows.append(
            {
                "heart": [(fraction - 45) / 5, *rng.standard_normal(7)],
                "label": ["weak"] if fraction < 40 else [],
                "ef": fraction if place % 7 else None,
                "group": f"p{place // 3}",
                "split": ("train", "validation", "test")[place // 3 % 3],
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    flags = ["--data.manifest", str(folder / "rows.parquet"), "--data.columns.heart", "heart"]
    return folder, [*flags, "--data.options.targets", "[ef]", "--split", "test", "--bootstrap", "30"]


def measured(given: tuple[Path, list[str]], task: str, *flags: str, picture: bool = True) -> dict:
    folder, data = given
    out, drawn = folder / f"{task}.json", folder / f"{task}.png"
    asked = ["evaluate", str(folder / "bundle"), "--task", task, *data, *flags, "--json", str(out)]
    assert main([*asked, *(["--picture", str(drawn)] if picture else [])]) == 0
    assert drawn.is_file() == picture
    return json.loads(out.read_text())


def test_multi_label(given: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    (given[0] / "classes.yaml").write_text("weak: {positive: [a weak heart, 20 %], negative: no weak heart}")
    flags = ("--prompts", str(given[0] / "classes.yaml"), "--uncertainty", "true", "--prompt_fraction", "0.5")
    result = measured(given, "multi-label", *flags)
    assert result["scores"]["groups"] == 13
    assert {"auroc", "auroc_ci", "auprc", "balanced_accuracy", "prevalence"} <= set(result["scores"]["classes"]["weak"])
    assert {"variance", "entropy", "margin", "random", "oracle"} == set(result["scores"]["uncertainty"])
    said = capsys.readouterr().out
    for table in ("classes", "uncertainty", "filtering"):
        assert table in said


def test_regression(given: tuple[Path, list[str]]) -> None:
    (given[0] / "values.yaml").write_text(
        "values: [20, 30, 40, 50, 60]\ntemplates: ['ejection fraction {value}', '{value} %']"
    )
    flags = ("--prompts", str(given[0] / "values.yaml"), "--target", "ef", "--threshold", "40", "--uncertainty", "true")
    result = measured(given, "regression", *flags)
    assert {"model", "training mean"} == set(result["scores"]["rows"])
    assert {"variance", "spread", "entropy", "score variance", "margin"} <= set(result["scores"]["uncertainty"])
    median = measured(given, "regression", *flags[:4], "--prediction", "median", "--top", "0.3", picture=True)
    assert "median of the values of the 0.3" in median["provenance"]["protocol"]["prediction"]


def test_probe(given: tuple[Path, list[str]]) -> None:
    result = measured(
        given, "probe", "--fractions", "0.2", "1", "--shots", "2", "--seeds", "2", "--features", "embedding"
    )
    rows = result["scores"]["probes"]
    assert list(rows)[::3] == ["20 % trained", "100 % trained", "2 a class trained"]
    assert rows["100 % trained"]["macro_auroc"] > 0.9
    number = measured(given, "probe", "--target", "ef", "--fractions", "1", "--seeds", "1")
    assert number["scores"]["probes"]["100 % trained"]["spearman"] > 0.7


def test_few_shot(given: tuple[Path, list[str]]) -> None:
    folder = given[0]
    rows = pq.read_table(folder / "rows.parquet").to_pylist()
    rows = [row | {"label": ["weak" if row["heart"][0] < -1 else "strong"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), folder / "classes.parquet")
    flags = ("--data.manifest", str(folder / "classes.parquet"), "--split", "all")
    sizes = ("--ways", "2", "--shots", "1", "5", "--queries", "10", "--folds", "3", "--features", "embedding")
    result = measured(given, "few-shot", *flags, *sizes)
    assert list(result["scores"]["accuracy"])[::2] == ["2-way 1-shot, linear head", "2-way 5-shot, linear head"]
    assert {len(values) for values in result["scores"]["fold_accuracies"].values()} == {3}
    assert "C = 1;" in result["provenance"]["protocol"]["linear head"]


def test_robustness_of_a_modality_without_perturbations(
    given: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = given
    assert main(["evaluate", str(folder / "bundle"), "--task", "robustness", "--tower", "heart", *data]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "the modality 'vector' of the tower 'heart' has no perturbations; modalities that have them: ecg" in said


def test_an_option_of_another_task(given: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = given
    assert main(["evaluate", str(folder / "bundle"), "--task", "probe", *data, "--top", "0.2"]) == 2
    assert capsys.readouterr().err.strip().endswith("does not take this setting; it belongs to regression")
