"""Results: the JSON that others read, the table on the screen, the file in the bundle, provenance."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mmalign
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.report.result import EvalResult
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_retrieval, evaluate_zero_shot

Make = Callable[..., Dataset]


@pytest.fixture
def retrieval(model: Aligner, paired: Make, random_rows: Any) -> EvalResult:
    return evaluate_retrieval(model, paired(random_rows(12)), a="left", b="right", split="test", bootstrap=20)


@pytest.fixture
def zero_shot(model: Aligner, paired: Make, random_rows: Any) -> EvalResult:
    rows = [row | {"label": "xyz"[i % 3]} for i, row in enumerate(random_rows(12))]
    return evaluate_zero_shot(model, paired(rows, ("left",)), side="left", split="test", bootstrap=20)


def test_json_of_a_retrieval(retrieval: EvalResult) -> None:
    document = json.loads(json.dumps(retrieval.to_json(), allow_nan=False))
    assert set(document) == {"task", "scores", "provenance"}
    assert document["task"] == "retrieval"
    assert set(document["scores"]) == {"left_to_right", "right_to_left"}
    wanted = {"hit@1", "hit@1_ci", "hit@5", "hit@10", "recall@10", "mrr", "median_rank", "mean_rank", "n", "gallery"}
    assert wanted <= set(document["scores"]["left_to_right"])


def test_json_of_a_classification(zero_shot: EvalResult) -> None:
    document = json.loads(json.dumps(zero_shot.to_json(), allow_nan=False))
    assert {"top1", "top1_ci", "balanced_accuracy", "macro_auroc", "ece", "n", "per_class_recall"} <= set(
        document["scores"]
    )
    said = document["provenance"]["protocol"]["resamples"]
    assert said == "20"


def test_provenance(retrieval: EvalResult, zero_shot: EvalResult) -> None:
    kept = retrieval.provenance
    assert kept["versions"]["mmalign"] == mmalign.__version__
    assert kept["versions"]["torch"] == str(torch.__version__)
    assert len(kept["data_hash"]) >= 16
    assert (kept["split"], kept["seed"], kept["resamples"]) == ("test", 0, 20)
    assert "ties are resolved pessimistically" in kept["protocol"]["ranks"]
    assert kept["bundle_hash"] is None  # a model that was never saved
    assert len(zero_shot.provenance["prompts_hash"]) == 64


def test_provenance_has_the_hash_of_the_bundle(model: Aligner, paired: Make, random_rows: Any, tmp_path: Path) -> None:
    folder = mmalign.save(model, tmp_path / "bundle")
    loaded = mmalign.load(folder)
    found = evaluate_retrieval(loaded, paired(random_rows(4)), a="left", b="right", split="test", bootstrap=0)
    assert found.provenance["bundle_hash"] == mmalign.bundles.bundle.fingerprint(folder)


def test_undefined_scores_are_null() -> None:
    result = EvalResult("zero-shot", {"map": float("nan"), "map_ci": [0.0, float("inf")]}, {})
    assert result.to_json()["scores"] == {"map": None, "map_ci": [0.0, None]}


def test_results_are_appended_to_the_file(retrieval: EvalResult, zero_shot: EvalResult, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    retrieval.append_to(path)
    zero_shot.append_to(path)
    assert [entry["task"] for entry in json.loads(path.read_text())] == ["retrieval", "zero-shot"]
    assert [file.name for file in tmp_path.glob("results*")] == ["results.json"]
    for bad in ("{}", "[", "[" * 100_000):
        path.write_text(bad)
        with pytest.raises(UserError, match="expected a JSON list of results"):
            retrieval.append_to(path)
        assert path.read_text() == bad


def test_the_table_on_the_screen(
    retrieval: EvalResult, zero_shot: EvalResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    retrieval.show()
    shown = capsys.readouterr().out
    score = retrieval.scores["left_to_right"]
    assert f"{score['hit@1']:.3f}  [{score['hit@1_ci'][0]:.3f}, {score['hit@1_ci'][1]:.3f}]" in shown
    assert "left -> right" in shown
    zero_shot.show()
    shown = capsys.readouterr().out
    assert f"{zero_shot.scores['top1']:.3f}" in shown
    assert "per class" not in shown  # the picture and the JSON have it


def test_pictures_of_results(retrieval: EvalResult, zero_shot: EvalResult, tmp_path: Path) -> None:
    for name, result in (("a.png", retrieval), ("b.png", zero_shot)):
        result.draw(tmp_path / name)
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(UserError, match="nothing to draw"):
        EvalResult("zero-shot", {}, {"split": "test"}).draw(tmp_path / "c.png")
