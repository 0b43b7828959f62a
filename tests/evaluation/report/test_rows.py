"""One row per query or sample: the rows give the scores of the result, and their files give the rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch

import mmalign
from mmalign.cli import main
from mmalign.data.dataset import Dataset
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts
from mmalign.model import Aligner

Make = Callable[..., Dataset]


def test_rows_of_retrieval_give_its_scores(model: Aligner, paired: Make, random_rows: Callable[..., Any]) -> None:
    table = random_rows(30)
    table[4]["right"] = table[9]["right"]  # a tie: neither is first
    result = mmalign.evaluate(model, paired(table), pair=("left", "right"), split="test", bootstrap=0)
    rows = result.rows
    assert len(rows["query"]) == 60
    for direction, scores in result.scores.items():
        kept = [k for k in range(60) if rows["direction"][k] == direction]
        rank = np.array([rows["rank"][k] for k in kept])
        assert (1 / rank).mean() == pytest.approx(scores["mrr"])
        right = [rows["prediction"][k] == rows["truth"][k] == rows["query"][k] for k in kept]
        assert np.mean(right) == pytest.approx(scores["hit@1"])
        assert [bool(one) for one in rank == 1] == right
    assert set(rows["uncertainty"]) == {None}
    assert all(a <= b for a, b in zip(rows["score"], rows["prediction_score"], strict=True))


def test_rows_of_zero_shot_give_its_scores(model: Aligner, paired: Make) -> None:
    names = ["a red disc", "a blue disc", "two cats"]
    towards = model.encode("words", names).vector
    generator = torch.Generator().manual_seed(0)
    vectors = towards[torch.arange(30) % 3] + 0.5 * torch.randn(30, 8, generator=generator)
    table = [{"id": f"r{k}", "left": row, "label": names[k % 3]} for k, row in enumerate(vectors.tolist())]
    table[7]["label"] = None
    result = mmalign.evaluate(
        model, paired(table, ("left",)), "zero-shot", pair=("left", "words"), split="test", bootstrap=0
    )
    rows = result.rows
    assert len(rows["id"]) == result.scores["n"] == 29
    assert "r7" not in rows["id"]
    right = np.array(rows["truth"]) == np.array(rows["prediction"])
    assert right.mean() == pytest.approx(result.scores["top1"])
    np.testing.assert_array_equal(right, rows["truth_rank"] == 1)
    np.testing.assert_array_equal(right, rows["probability"] == rows["truth_probability"])
    assert ((rows["entropy"] >= 0) & (rows["entropy"] <= np.log(3) + 1e-9)).all()


def test_rows_of_several_labels(model: Aligner, paired: Make) -> None:
    names = ["disc", "cat"]
    table = [
        {"id": f"r{k}", "left": torch.randn(8, generator=torch.Generator().manual_seed(k)).tolist(), "label": label}
        for k, label in enumerate([["disc"], ["cat"], ["disc", "cat"], [], ["cat"], ["disc"]])
    ]
    data = paired(table, ("left",))
    settings: dict[str, Any] = {"pair": ("left", "words"), "split": "test", "bootstrap": 0}
    rows = mmalign.evaluate(model, data, "zero-shot", **settings).rows
    assert rows["truth/cat"].tolist() == [False, True, True, False, True, False]
    prompts = ClassPrompts({name: (name,) for name in names}, {"cat": ("no cat",)})
    result = mmalign.evaluate(model, data, "multi-label", prompts=prompts, tune_split="none", **settings)
    assert result.rows["truth/cat"].tolist() == rows["truth/cat"].tolist()
    np.testing.assert_array_equal(result.rows["prediction/cat"], result.rows["score/cat"] > 0)
    assert "prediction/disc" not in result.rows  # without negative prompts or a threshold nothing is predicted
    np.testing.assert_array_equal(result.details["margins"][:, 1], result.rows["score/cat"])


def test_rows_of_regression_give_its_scores(model: Aligner, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    import pyarrow as pa

    file = tmp_path / "numbers.parquet"
    numbers = [10.0, None, 30.0, 20.0]
    pq.write_table(pa.table({"id": list("abcd"), "left": rng.standard_normal((4, 8)).tolist(), "size": numbers}), file)
    data = mmalign.DataConfig(manifest=str(file), columns={"left": "left"}, options={"targets": ["size"]})
    result = mmalign.evaluate(
        model, data, "regression", pair=("left", "words"), split="all", bootstrap=0, target="size",
        prompts=ValuePrompts((10.0, 20.0, 30.0), ("{value} cats",)),
    )  # fmt: skip
    rows = result.rows
    assert rows["id"] == ["a", "c", "d"]
    assert rows["truth"].tolist() == [10, 30, 20]
    assert np.abs(rows["error"]).mean() == pytest.approx(result.scores["mae"])
    np.testing.assert_array_equal(rows["prediction"] - rows["truth"], rows["error"])


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_holds_the_rows(
    suffix: str, model: Aligner, paired: Make, random_rows: Callable[..., Any], tmp_path: Path
) -> None:
    result = mmalign.evaluate(model, paired(random_rows(5)), pair=("left", "right"), split="test", bootstrap=0)
    result.write_rows(tmp_path / f"rows{suffix}")
    table = (pc.read_csv if suffix == ".csv" else pq.read_table)(str(tmp_path / f"rows{suffix}"))
    assert table.column_names == list(result.rows)
    assert table.column("query").to_pylist() == result.rows["query"]
    np.testing.assert_allclose(table.column("rank").to_pylist(), result.rows["rank"])


def test_tasks_without_rows_and_other_suffixes_are_refused_before_evaluation(
    model: Aligner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = str(tmp_path / "bundle")
    mmalign.save(model, saved)
    missing = ["--data.manifest", "missing.csv", "--data.columns.left", "left"]
    assert main(["evaluate", saved, *missing, "--task", "probe", "--rows", "rows.csv"]) == 2
    assert "'probe' has no results by query or sample; these have: retrieval" in capsys.readouterr().err
    assert main(["evaluate", saved, *missing, "--rows", "rows.xlsx"]) == 2
    assert "ends in .parquet or .csv" in capsys.readouterr().err
    with pytest.raises(mmalign.UserError, match="no results by query"):
        mmalign.EvalResult("probe", {}, {}).write_rows(tmp_path / "rows.csv")
