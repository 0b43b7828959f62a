"""What a risk-coverage curve, a scatter of numbers and a row of intervals show, read from the figure itself."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmalign.errors import UserError
from mmalign.evaluation.metrics.regression import Predicted
from mmalign.evaluation.metrics.selective_prediction import risk_coverage as risks_of
from mmalign.evaluation.report.figures import figure as figure_of
from mmalign.evaluation.report.result import EvalResult
from mmalign.pictures import dots, predicted_and_true, risk_coverage, save
from mmalign.types import Embedding


@pytest.fixture
def curves() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    uncertainty = rng.random(200)
    error = (rng.random(200) < uncertainty).astype(float)
    curves = {"variance": risks_of(error, uncertainty), "oracle": risks_of(error, error)}
    return curves | {"random": np.full(200, error.mean())}


def test_risk_coverage_draws_the_given_curves(curves: dict[str, np.ndarray], tmp_path: Path) -> None:
    figure = risk_coverage(curves, ylabel="share wrong", title="t")
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"variance", "oracle", "random"}
    for name, curve in curves.items():
        np.testing.assert_array_equal(lines[name].get_ydata(), curve)
        assert (lines[name].get_xdata()[0], lines[name].get_xdata()[-1]) == (0.5, 100)
    assert lines["oracle"].get_color() == lines["random"].get_color() != lines["variance"].get_color()
    assert axes.get_ylabel() == "share wrong"
    assert save(figure, tmp_path / "risk.png").stat().st_size > 1000


def test_the_first_rows_do_not_set_the_scale() -> None:
    """One error among the first rows is a risk of 1 there: the curve that matters would be a flat line."""
    curve = np.concatenate([[1.0, 0.5], np.full(198, 0.02)])
    assert risk_coverage({"x": curve}).axes[0].get_ylim()[1] < 0.1


def test_predictions_over_the_truth() -> None:
    truth, predicted = np.array([30.0, 60.0, 45.0]), np.array([35.0, 50.0, 45.0])
    figure = predicted_and_true(truth, predicted, name="ejection fraction (%)", threshold=40.0)
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), np.stack([truth, predicted], axis=1))
    assert axes.get_xlim() == axes.get_ylim()  # the line of no error is the diagonal
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true ejection fraction (%)", "predicted ejection fraction (%)")
    assert len(figure.axes) == 1
    beside = predicted_and_true(truth, predicted, uncertainty=np.array([9.0, 1.0, 2.0]), curves={"x": np.ones(3)})
    np.testing.assert_array_equal(beside.axes[0].collections[0].get_array(), [100, 0, 50])
    assert "mean absolute error" in [axes.get_ylabel() for axes in beside.axes]


def test_dots_are_drawn_with_intervals_and_chance() -> None:
    axes = dots([("a", 0.7, [0.6, 0.8]), ("b", 0.5, [])], xlabel="area", chance=0.5).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    drawn = [tuple(line.get_xdata()) for line in axes.lines]
    assert drawn == [(0.6, 0.8), (0.7,), (0.5,), (0.5, 0.5)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # from top to bottom


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: risk_coverage({}),
        lambda: risk_coverage({"x": np.zeros(0)}),
        lambda: predicted_and_true(np.zeros(2), np.zeros(3)),
        lambda: predicted_and_true(np.zeros(0), np.zeros(0)),
        lambda: dots([], xlabel="x"),
    ],
)
def test_results_without_curves_cannot_be_drawn(wrong: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match="expected"):
        wrong()


def test_each_task_has_its_picture(curves: dict[str, np.ndarray]) -> None:
    uncertainty, origin = SimpleNamespace(curves=curves), {"split": "test"}
    said = Predicted(np.arange(4.0), np.arange(4.0), np.zeros(4), np.zeros(4))
    number = {"truth": np.arange(4.0), "predicted": said, "target": "x", "threshold": None}
    number["embedding"] = Embedding(np.zeros((4, 2)))
    given = [
        ("multi-label", {"n": 4, "classes": {"a": {"auroc": 0.5}}}, {}),
        ("multi-label", {"n": 4, "classes": {"a": {"auroc": 0.5}}}, {"uncertainty": uncertainty}),
        ("probe", {"n": 4, "probes": {"1 % trained": {"macro_auroc": 0.5}, "1 % gain": {"macro_auroc": 0.0}}}, {}),
        ("regression", {"n": 4, "mae": 1.0}, number),
        ("regression", {"n": 4, "mae": 1.0}, number | {"uncertainty": uncertainty}),
    ]
    labels = []
    for task, scores, details in given:
        figure = figure_of(EvalResult(task, scores, origin, details))
        assert task.split("-")[0] in figure.get_suptitle().lower() or task in ("multi-label", "probe")
        labels.append(figure.axes[0].get_xlabel())
    coverage = "coverage: accepted rows, the most certain first (per cent)"
    assert labels == ["area under the ROC curve", coverage, "macro auroc", "true x", "true x"]
    with pytest.raises(UserError, match="nothing to draw"):
        figure_of(EvalResult("regression", {"mae": 1.0}, origin))
