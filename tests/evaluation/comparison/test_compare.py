"""Models compared on the same queries: against loops, against a copy, and what is refused."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import mmalign
from mmalign.cli import main
from mmalign.data.dataset import Dataset
from mmalign.evaluation.comparison.metrics import rows_by_direction
from mmalign.evaluation.comparison.paired import draw, holm
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.prompts.contrast_prompts import ValuePrompts
from mmalign.model import Aligner

Make = Callable[..., Dataset]
SETTINGS: dict[str, Any] = {"pair": ("left", "right"), "split": "test", "bootstrap": 0}


@pytest.fixture(scope="module")
def other(model: Aligner) -> Aligner:
    """The model with noise between its towers: worse at retrieval."""
    worse = copy.deepcopy(model)
    torch.manual_seed(1)
    text = worse.encoders["words"]
    with torch.no_grad():
        for weight in text.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return worse


def retrieval(model: Aligner, data: Dataset, **changes: Any) -> mmalign.EvalResult:
    return mmalign.evaluate(model, data, "retrieval", **SETTINGS | changes)


@pytest.fixture
def results(model: Aligner, paired: Make, random_rows: Callable[..., Any]) -> dict[str, mmalign.EvalResult]:
    """Results of a model on 80 queries of 40 groups, and the same result with other ranks."""
    table = [row | {"group": f"g{index // 2}"} for index, row in enumerate(random_rows(80, noise=0.9))]
    good = retrieval(model, paired(table))
    worse = copy.deepcopy(good)
    rng = np.random.default_rng(0)
    rank = np.array(worse.rows["rank"]) + rng.integers(0, 3, len(worse.rows["rank"]))
    worse.rows = dict(worse.rows) | {"rank": rank.tolist()}
    worse.rows |= {f"hit@{k}": (rank <= k).astype(float).tolist() for k in (1, 5, 10)}
    return {"worse": worse, "good": good}


def test_differences_equal_a_bootstrap_of_the_differences_of_each_query(results: dict[str, Any]) -> None:
    comparison = mmalign.compare(results, bootstrap=500, seed=3)
    rows = {name: rows_by_direction(result) for name, result in results.items()}
    assert [one.direction for one in comparison.differences][::4] == ["left_to_right", "right_to_left"]
    for one in comparison.differences:
        good, worse = (rows[name][one.direction].columns for name in ("good", "worse"))
        outcomes = [
            1 / table["rank"].astype(float) if one.metric == "mrr" else table[one.metric].astype(float)
            for table in (good, worse)
        ]
        apart = outcomes[0] - outcomes[1]
        assert one.difference == pytest.approx(apart.mean())
        assert one.value == pytest.approx(outcomes[0].mean())
        groups = np.unique(good["group"].astype(str), return_inverse=True)[1]
        # Groups are numbered in the order of the rows: the same draws as of any other numbering.
        order = np.unique(groups, return_index=True)[1].argsort().argsort()[groups]
        assert one.interval == pytest.approx(boot.means(apart[:, None], order, resamples=500, seed=3)[0])
    assert comparison.provenance["protocol"]["queries"].startswith("left -> right: 80 in 40 groups")
    mrr = next(one for one in comparison.differences if one.metric == "mrr")
    assert mrr.significant
    assert mrr.difference > 0


def test_difference_to_a_copy_is_zero_and_not_significant(results: dict[str, Any]) -> None:
    comparison = mmalign.compare({"one": results["good"], "copy": copy.deepcopy(results["good"])}, bootstrap=200)
    assert {(one.difference, *one.interval, one.p, one.p_holm) for one in comparison.differences} == {(0, 0, 0, 1, 1)}
    assert not any(one.significant for one in comparison.differences)


def test_p_values_are_uniform_for_equal_models() -> None:
    """Of two models that are right equally often, 5 % of the comparisons are significant at 5 %."""
    rng, ps = np.random.default_rng(0), []
    for seed in range(200):
        a, b = rng.standard_normal((2, 60))
        metrics = {name: {"x": lambda w, x=x: w @ x / 60} for name, x in (("a", a), ("b", b))}
        ps.append(draw(metrics, np.arange(60), resamples=300, seed=seed).difference("a", "b", "x")[2])
    assert 0.02 <= np.mean(np.array(ps) < 0.05) <= 0.1
    assert np.mean(ps) == pytest.approx(0.5, abs=0.06)


def test_holm_equals_the_definition() -> None:
    p = np.random.default_rng(0).random(9) ** 3
    order = np.argsort(p)
    expected = np.empty(9)
    for i in range(9):
        expected[order[i]] = max(min(1.0, (9 - j) * p[order[j]]) for j in range(i + 1))
    np.testing.assert_allclose(holm(p.tolist()), expected)


def test_several_models(results: dict[str, Any]) -> None:
    three = results | {"copy": copy.deepcopy(results["good"])}
    first = mmalign.compare(three, metrics=["mrr", "recall@1", "mean_rank"], bootstrap=100)
    assert {(one.model, one.baseline) for one in first.differences} == {("good", "worse"), ("copy", "worse")}
    assert {one.metric for one in first.differences} == {"mrr", "recall@1", "mean_rank"}
    every = mmalign.compare(three, metrics=["mrr"], pairs="all", bootstrap=100)
    assert len(every.differences) == 6
    assert "all 6 differences" in every.provenance["protocol"]["p (Holm)"]


def test_all_numbers_are_json_and_drawn(results: dict[str, Any], tmp_path: Path) -> None:
    comparison = mmalign.compare(results, metrics=["mrr", "mean_rank"], bootstrap=100)
    text = json.dumps(comparison.to_json(), allow_nan=False)
    assert json.loads(text)["differences"][0]["metric"] == "mrr"
    assert json.loads(text)["models"]["good"]["scores"]["left_to_right"]["mrr"]["ci"]
    axes = comparison.figure().axes
    assert len(axes) == 2  # a panel for the ranks, on an axis of their own
    assert axes[1].get_yticklabels()[0].get_text().endswith("(lower is better)")
    comparison.draw(tmp_path / "forest.png")
    assert (tmp_path / "forest.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "all"}, "the splits differ (test, all)"),
        ({"relevance": "content"}, "relevance differs (record, content)"),
        ({"ties": "middle"}, "ranks differs"),
    ],
)
def test_other_settings_are_refused_by_name(
    changed: dict[str, Any], message: str, model: Aligner, paired: Make, random_rows: Callable[..., Any]
) -> None:
    data = paired(random_rows(12))
    two = {"a": retrieval(model, data), "b": retrieval(model, data, **changed)}
    with pytest.raises(mmalign.UserError, match="a and b cannot be compared") as caught:
        mmalign.compare(two, bootstrap=100)
    assert message in str(caught.value)


def test_other_data_queries_and_galleries_are_refused_by_name(
    model: Aligner, paired: Make, random_rows: Callable[..., Any], results: dict[str, Any]
) -> None:
    a, b = (retrieval(model, paired(random_rows(12, seed=seed))) for seed in (0, 1))
    with pytest.raises(mmalign.UserError, match="the data differ"):
        mmalign.compare([a, b], bootstrap=100)
    good, one = results["good"], copy.deepcopy(results["good"])
    one.provenance["gallery"]["left_to_right"] |= {"size": 81}
    with pytest.raises(mmalign.UserError, match="left_to_right differ .the split of 80 items, the split of 81"):
        mmalign.compare([good, one], bootstrap=100)
    one.provenance["gallery"]["left_to_right"] |= {"size": 80, "hash": "0"}
    with pytest.raises(mmalign.UserError, match="same size but other items"):
        mmalign.compare([good, one], bootstrap=100)
    two = copy.deepcopy(good)
    two.rows = {name: list(values[1:]) for name, values in two.rows.items()}
    with pytest.raises(mmalign.UserError, match="80 of model 1 and 79 of model 2, of which 1 and 0 .* such as 'r0'"):
        mmalign.compare([good, two], bootstrap=100)
    three = copy.deepcopy(good)
    three.rows["rank"][0] = None
    with pytest.raises(mmalign.UserError, match="the relevant items of left_to_right differ for 1 queries"):
        mmalign.compare([good, three], bootstrap=100)


@pytest.fixture
def labelled(model: Aligner, paired: Make) -> Dataset:
    names = ["a red disc", "a blue disc", "two cats"]
    towards = model.encode("words", names).vector
    generator = torch.Generator().manual_seed(0)
    vectors = towards[torch.arange(60) % 3] + 0.7 * torch.randn(60, 8, generator=generator)
    return paired(
        [{"id": f"r{k}", "left": row, "label": names[k % 3]} for k, row in enumerate(vectors.tolist())], ("left",)
    )


def test_zero_shot_metrics_equal_those_of_the_results(model: Aligner, other: Aligner, labelled: Dataset) -> None:
    settings = SETTINGS | {"pair": ("left", "words")}
    results = {
        name: mmalign.evaluate(one, labelled, "zero-shot", **settings) for name, one in (("a", model), ("b", other))
    }
    comparison = mmalign.compare(results, bootstrap=100)
    assert [one.metric for one in comparison.differences] == ["top1", "balanced_accuracy"]  # three classes: no top5
    for one in comparison.differences:
        assert one.value == pytest.approx(results["b"].scores[one.metric])
        assert one.baseline_value == pytest.approx(results["a"].scores[one.metric])
    changed = copy.deepcopy(results["b"])
    changed.rows["truth"][0] = "two cats"
    with pytest.raises(mmalign.UserError, match="truth differs in 1 rows, such as 'r0'"):
        mmalign.compare({"a": results["a"], "b": changed}, bootstrap=100)
    changed.provenance["prompts_hash"] = "0123"
    with pytest.raises(mmalign.UserError, match="the prompts differ"):
        mmalign.compare({"a": results["a"], "b": changed}, bootstrap=100)


def test_multi_label_and_regression_metrics_equal_those_of_the_results(
    model: Aligner, other: Aligner, paired: Make, tmp_path: Path
) -> None:
    kinds = [["disc"], ["cat"], ["disc", "cat"], [], ["cat"], ["disc"]] * 4
    generator = torch.Generator().manual_seed(0)
    table = [
        {"id": f"r{k}", "left": torch.randn(8, generator=generator).tolist(), "label": kind}
        for k, kind in enumerate(kinds)
    ]
    settings = SETTINGS | {"pair": ("left", "words"), "tune_split": "none"}
    data = paired(table, ("left",))
    two = [mmalign.evaluate(one, data, "multi-label", **settings) for one in (model, other)]
    for one in mmalign.compare(two, bootstrap=100).differences:
        assert (one.baseline_value, one.value) == pytest.approx(tuple(result.scores[one.metric] for result in two))
    file = tmp_path / "numbers.parquet"
    numbers = np.random.default_rng(0).uniform(10, 30, 20)
    vectors = torch.randn(20, 8, generator=generator).tolist()
    pq.write_table(pa.table({"id": [f"r{k}" for k in range(20)], "left": vectors, "size": numbers}), file)
    config = mmalign.DataConfig(manifest=str(file), columns={"left": "left"}, options={"targets": ["size"]})
    prompts = ValuePrompts((10.0, 20.0, 30.0), ("{value} cats",))
    options = {"pair": ("left", "words"), "split": "all", "target": "size", "prompts": prompts}
    two = [mmalign.evaluate(one, config, "regression", bootstrap=0, **options) for one in (model, other)]
    found = {one.metric: one for one in mmalign.compare(two, bootstrap=100).differences}
    for metric in ("mae", "rmse", "spearman"):
        assert found[metric].value == pytest.approx(two[1].scores[metric])
    assert found["mae"].name == "mae (lower is better)"


@pytest.fixture(scope="module")
def bundles(model: Aligner, other: Aligner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for name, one in (("one", model), ("two", other), ("copy", model)):
        mmalign.save(one, folder / name, provenance={"data": "another hash"})
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"r{k}", "left": rng.standard_normal(8).tolist(), "words": f"{k} cats", "split": "test"}
        for k in range(24)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder


def test_bundles_and_their_rows_on_the_command_line(bundles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = [
        "--data.manifest",
        str(bundles / "rows.parquet"),
        "--data.columns",
        "{left: left, words: words}",
        "--split",
        "test",
    ]
    pair = ["--pair", "[left, words]"]
    one, two, same = (str(bundles / name) for name in ("one", "two", "copy"))
    out, forest = bundles / "out.json", bundles / "forest.png"
    flags = ["--bootstrap", "200", "--json", str(out), "--picture", str(forest)]
    assert main(["compare", one, two, same, *data, *pair, *flags]) == 0
    said = capsys.readouterr().out
    assert "one and copy are the same model" in said
    assert "one was trained on other data" in said
    saved = json.loads(out.read_text())
    assert list(saved["models"]) == ["one", "two", "copy"]
    assert forest.stat().st_size > 1000
    files = []
    for name in (one, two):
        files.append(f"{name}.parquet")
        assert main(["evaluate", name, *data, *pair, "--bootstrap", "0", "--rows", files[-1]]) == 0
    assert main(["compare", *files, "--bootstrap", "200", "--json", str(out)]) == 0
    again = json.loads(out.read_text())
    wanted = [row for row in saved["differences"] if row["model"] == "two"]
    for row, expected in zip(again["differences"], wanted, strict=True):
        assert {key: row[key] for key in row if key != "p_holm"} == {
            key: expected[key] for key in row if key != "p_holm"
        }


def test_wrong_input_is_one_line(
    bundles: Path, results: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.parquet"
    pq.write_table(pa.table({"a": [1]}), wrong)
    csv = tmp_path / "rows.csv"
    csv.write_text("a\n1\n")
    damaged = tmp_path / "damaged.parquet"
    results["good"].rows = dict(results["good"].rows) | {"rank": ["x"] * 160}
    results["good"].write_rows(damaged)
    for arguments, message in (
        ([str(wrong), str(wrong)], "without a result"),
        ([str(csv), str(csv)], "expected a Parquet file of mmalign evaluate --rows"),
        ([str(damaged), str(damaged)], "damaged rows of a result"),
        ([str(bundles / "one")], "at least two models"),
        ([str(bundles / "one"), str(bundles / "two"), "--pair", "[left, words]"], "--data.columns.left"),
        ([str(wrong), str(wrong), "--pairs", "firts"], "expected first or all"),
    ):
        assert main(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err
    good = results["worse"]
    for key, value in (("protocol", ["ranks"]), ("gallery", {"left->right": 3}), ("gallery", 3)):
        hostile = copy.deepcopy(good)
        hostile.provenance[key] = value
        with pytest.raises(mmalign.UserError, match="damaged rows of a result|cannot be compared"):
            mmalign.compare([hostile, copy.deepcopy(good)], bootstrap=100)
    zero = copy.deepcopy(good)
    zero.rows = dict(zero.rows) | {"rank": [0] * 160}
    with pytest.raises(mmalign.UserError, match="^expected ranks from 1"):
        mmalign.compare([zero, copy.deepcopy(zero)], bootstrap=100)
    pipe = tmp_path / "pipe.parquet"
    os.mkfifo(pipe)
    with pytest.raises(mmalign.UserError, match="got a folder or a pipe"):
        mmalign.compare([pipe, pipe])
    with pytest.raises(mmalign.UserError, match="^--metrics: no metric called 'mmr'.*mrr"):
        mmalign.compare([results["worse"], copy.deepcopy(results["worse"])], metrics=["mmr"], bootstrap=100)
    with pytest.raises(mmalign.UserError, match="'probe' has no rows"):
        mmalign.compare([mmalign.EvalResult("probe", {}, {})] * 2, bootstrap=100)


def test_one_group_has_nothing_to_resample(model: Aligner, paired: Make, random_rows: Callable[..., Any]) -> None:
    result = retrieval(model, paired([row | {"group": "p"} for row in random_rows(5)]))
    with pytest.raises(mmalign.UserError, match="at least two records or groups, got 1"):
        mmalign.compare([result, copy.deepcopy(result)], bootstrap=100)
