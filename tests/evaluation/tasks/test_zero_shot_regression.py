"""Regression by prompts: predictions by hand, figures against scikit-learn, uncertainty of a number."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.regression import Predicted, number_uncertainty, predict
from mmalign.evaluation.prompts.contrast_prompts import ValuePrompts
from mmalign.evaluation.run_task import evaluate
from mmalign.model import Aligner
from tests.evaluation.running import evaluate_regression

Make = Callable[..., Dataset]
PROMPTS = ValuePrompts(tuple(map(float, range(10, 90, 10))), ("a red disc {value}", "the picture of {value} cats"))


@pytest.fixture
def hearts(model: Aligner, paired: Make) -> Dataset:
    """Vectors near the sentence of their value; two rows a patient; one value is not known."""
    rng = np.random.default_rng(3)
    rows, values = [], []
    for patient in range(40):
        for _ in range(2):
            values.append(float(rng.integers(2, 8) * 10))
            towards = model.encode("words", PROMPTS.texts(values[-1])).vector.mean(dim=0).numpy()
            vector = towards + 0.05 * rng.standard_normal(8)
            split = ("train", "validation", "test", "test")[patient % 4]
            rows.append({"left": (vector / np.linalg.norm(vector)).tolist(), "group": f"p{patient}", "split": split})
    values[4] = float("nan")
    data = paired(rows, ("left",))
    records = tuple(
        record if np.isnan(value) else replace(record, targets={"fraction": value})
        for record, value in zip(data.records, values, strict=True)
    )
    return replace(data, records=records)


def test_mean_by_a_loop() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.standard_normal((5, 4, 3)), (1.0, 2.0, 5.0, 9.0)
    got = predict(scores, values, temperature=0.5)
    for row in range(5):
        logits = [sum(scores[row, v]) / 3 / 0.5 for v in range(4)]
        chance = [np.exp(x) / sum(np.exp(y) for y in logits) for x in logits]
        said = sum(c * v for c, v in zip(chance, values, strict=True))
        assert got.values[row] == pytest.approx(said)
        spread = sum(c * (v - said) ** 2 for c, v in zip(chance, values, strict=True)) ** 0.5
        assert got.spread[row] == pytest.approx(spread)
        assert got.entropy[row] == pytest.approx(-sum(c * np.log(c) for c in chance))
        assert got.score_variance[row] == pytest.approx(np.mean([np.var(scores[row, v]) for v in range(4)]))


def test_median_of_the_best_prompts() -> None:
    """Ten prompts, the best two: 40 twice; the best four: 40, 40, 10, 30, whose median lies between 30 and 40."""
    scores = np.array([[[5.0, 0.0], [0.0, 0.1], [4.0, 0.0], [9.0, 8.0], [0.0, 0.0]]])
    values = (10.0, 20.0, 30.0, 40.0, 50.0)
    assert predict(scores, values, prediction="median", top=0.2).values == [40]
    got = predict(scores, values, prediction="median", top=0.4)
    assert (got.values[0], got.spread[0]) == (35, pytest.approx(np.std([40, 40, 10, 30])))
    assert predict(scores, values, prediction="median", top=0.01).values == [40]  # never of nothing


def test_a_cold_softmax_is_the_best_value() -> None:
    scores = np.random.default_rng(1).standard_normal((6, 5, 1))
    got = predict(scores, (1.0, 2.0, 3.0, 4.0, 5.0), temperature=1e-6).values
    np.testing.assert_allclose(got, scores[:, :, 0].argmax(axis=1) + 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prediction": "mode"}, "no prediction called 'mode'"),
        ({"temperature": 0.0}, "--temperature: expected a number above 0"),
        ({"top": 0.0}, "--top: expected a fraction"),
    ],
)
def test_invalid_prediction_settings_are_errors(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict(np.zeros((1, 2, 1)), (1.0, 2.0), **given)


def test_figures_equal_scikit_learn(model: Aligner, hearts: Dataset) -> None:
    result = evaluate_regression(
        model, hearts, side="left", class_side="words", split="test", target="fraction", prompts=PROMPTS,
        threshold=45.0, temperature=0.001, bootstrap=50, uncertainty=True,
    )  # fmt: skip
    truth, said, got = result.details["truth"], result.details["predicted"].values, result.scores
    assert (got["n"], got["groups"]) == (39, 20)  # one value is not known
    assert got["mae"] == pytest.approx(metrics.mean_absolute_error(truth, said))
    assert got["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, said))
    assert got["r2"] == pytest.approx(metrics.r2_score(truth, said))
    assert got["spearman"] == pytest.approx(stats.spearmanr(truth, said).statistic)
    high = truth >= 45
    assert got["auroc"] == pytest.approx(metrics.roc_auc_score(high, said))
    assert got["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(high, said >= 45))
    assert got["balanced_accuracy_tuned"] == pytest.approx(metrics.balanced_accuracy_score(high, said > got["cut"]))
    assert got["fraction_below"] == pytest.approx((~high).mean())
    centre = np.mean([r.targets["fraction"] for r in hearts.records if r.split == "train"])
    baseline = got["rows"]["training mean"]
    assert baseline["mae"] == pytest.approx(np.abs(truth - centre).mean())
    assert "spearman" not in baseline  # a constant has no ranks
    assert got["mae_ci"][0] < got["mae"] < got["mae_ci"][1]
    assert {"spread", "entropy", "score variance", "margin"} <= set(got["uncertainty"])
    assert "variance" not in got["uncertainty"]  # this model says none
    assert got["spearman"] > 0.5  # the comparison above can fail


def test_predictions_on_the_wrong_side_of_the_threshold_are_errors() -> None:
    """With a threshold, errors are predictions on its wrong side, and halves give balanced accuracy."""
    truth, values = np.array([30.0, 35, 50, 60, 20, 70]), np.array([32.0, 44, 41, 58, 22, 38])
    said = Predicted(values, np.array([1.0, 8, 9, 2, 1, 10]), np.arange(6.0), np.zeros(6))
    table = number_uncertainty(truth, said, {}, np.arange(6), threshold=40, resamples=0).tables["uncertainty"]
    assert set(table) == {"spread", "entropy", "margin", "random", "oracle"}
    assert table["spread"]["low_uncertainty"] == 1
    assert table["spread"]["high_uncertainty"] == 0.25  # of 35 -> 44, 50 -> 41, 70 -> 38
    assert table["spread"]["auroc_of_wrong"] == metrics.roc_auc_score([0, 1, 0, 0, 0, 1], said.spread)


def test_evaluation_by_task_name_gives_the_same_result(model: Aligner, hearts: Dataset, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("values: {from: 10, to: 80, step: 10}\ntemplates: a red disc {value}")
    given = {"pair": ("left", "words"), "split": "test", "prompts": tmp_path / "p.yaml", "bootstrap": 0}
    assert evaluate(model, hearts, "regression", **given, target="fraction").scores["n"] == 39
    with pytest.raises(UserError, match="no record has a number called 'fractoin'; did you mean 'fraction'"):
        evaluate(model, hearts, "regression", **given, target="fractoin")
    with pytest.raises(UserError, match="regression needs --target"):
        evaluate(model, hearts, "regression", **given)
