"""Risk and coverage against loops and closed forms; a table in which a useless variance looks useless."""

from itertools import permutations

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from mmalign.evaluation.metrics.selective_prediction import (
    assess,
    aurc,
    class_uncertainties,
    detection_uncertainties,
    risk_coverage,
    variance_of,
)
from mmalign.evaluation.metrics.weighted import mean
from mmalign.types import Embedding


def loop(error: list[float], order: list[int]) -> float:
    """The mean error of the first k, mean over k."""
    return float(np.mean([np.mean([error[place] for place in order[:k]]) for k in range(1, len(order) + 1)]))


def test_six_rows_by_hand() -> None:
    error, uncertainty = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.9, 0.2, 0.5, 0.4, 0.8])
    # In order of uncertainty the errors are 0 0 1 0 1 1: risks 0, 0, 1/3, 1/4, 2/5, 3/6.
    risks = [0, 0, 1 / 3, 1 / 4, 2 / 5, 3 / 6]
    np.testing.assert_allclose(risk_coverage(error, uncertainty), risks)
    assert aurc(error, uncertainty) == pytest.approx(np.mean(risks))
    # The best order 0 0 0 1 1 1, by the closed form sum over k of (k - 3)+ / k.
    assert aurc(error, error) == pytest.approx(sum((k - 3) / k for k in range(4, 7)) / 6)


def test_equal_uncertainties_are_the_mean_over_orders() -> None:
    error, uncertainty = [0.5, 0.0, 2.0, 1.0, 0.25], [1.0, 1.0, 0.0, 1.0, 2.0]
    orders = [[2, *middle, 4] for middle in permutations([0, 1, 3])]
    expected = np.mean([loop(error, order) for order in orders])
    assert aurc(np.array(error), np.array(uncertainty)) == pytest.approx(expected, rel=1e-12)
    assert risk_coverage(np.array(error), np.array(uncertainty)).mean() == pytest.approx(expected, rel=1e-12)


def test_a_constant_uncertainty_is_the_random_order() -> None:
    """Whatever the errors: the expected risk at every coverage is their mean."""
    error = np.random.default_rng(0).random(50)
    assert aurc(error, np.zeros(50)) == pytest.approx(error.mean(), rel=1e-12)
    np.testing.assert_allclose(risk_coverage(error, np.zeros(50)), error.mean())


def test_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(5)
    error, uncertainty = rng.random(20), np.round(rng.random(20), 1)
    weights = np.stack([np.bincount(rng.integers(0, 20, 20), minlength=20) for _ in range(4)]).astype(float)
    again = [np.repeat(np.arange(20), row.astype(int)) for row in weights]
    np.testing.assert_allclose(
        aurc(error, uncertainty, weights), [aurc(error[rows], uncertainty[rows])[0] for rows in again], rtol=1e-12
    )


@pytest.fixture
def judged() -> dict[str, np.ndarray]:
    """A classifier that errs where `knows` says so; `blind` says nothing."""
    rng = np.random.default_rng(2)
    knows = rng.random(400)
    return {"knows": knows, "blind": rng.random(400), "error": (rng.random(400) < knows).astype(float)}


def test_an_uninformative_variance_equals_the_random_order(judged: dict[str, np.ndarray]) -> None:
    error = judged["error"]
    found = assess(
        {"variance": judged["blind"], "entropy": judged["knows"]},
        error,
        np.arange(400),
        quality=lambda weights: 1 - mean(error, weights),
        resamples=100,
    )
    table, filtering = found.tables["uncertainty"], found.tables["filtering"]
    low, high = table["variance"]["gap_ci"]
    assert low < 0 < high
    assert table["entropy"]["gap_ci"][0] > 0.2
    assert table["entropy"]["auroc_of_wrong"] > 0.75
    assert table["oracle"]["aurc"] < table["entropy"]["aurc"] < table["random"]["aurc"]
    assert table["variance"]["aurc"] == pytest.approx(table["random"]["aurc"], abs=0.05)
    assert table["random"]["aurc"] == pytest.approx(error.mean())
    excess = table["entropy"]["aurc"] - table["oracle"]["aurc"]
    assert table["entropy"]["excess_aurc"] == pytest.approx(excess)
    halves = table["entropy"]["low_uncertainty"], table["entropy"]["high_uncertainty"]
    assert table["entropy"]["gap"] == pytest.approx(halves[0] - halves[1])
    assert np.mean(halves) == pytest.approx(1 - error.mean())
    kept = list(filtering["entropy"].values())
    assert kept[0] == pytest.approx(1 - error.mean())
    assert kept[-1] > kept[0] + 0.3
    assert set(found.curves) == {"variance", "entropy", "oracle", "random"}
    np.testing.assert_allclose(found.curves["entropy"].mean(), table["entropy"]["aurc"])


def test_a_draw_of_groups_is_wider(judged: dict[str, np.ndarray]) -> None:
    error, uncertainty = (np.repeat(judged[key][:20], 10) for key in ("error", "knows"))
    width = [
        np.ptp(assess({"x": uncertainty}, error, groups, quality=lambda w: 1 - mean(error, w), resamples=200)
               .tables["uncertainty"]["x"]["aurc_ci"])
        for groups in (np.arange(200), np.repeat(np.arange(20), 10))
    ]  # fmt: skip
    assert width[1] > 2 * width[0]


def test_numeric_errors_above_the_median_count_as_wrong() -> None:
    error = np.array([0.1, 0.2, 5.0, 7.0])
    found = assess({"x": error}, error, np.arange(4), quality=lambda w: mean(error, w), wanted="mae", resamples=0)
    assert found.tables["uncertainty"]["x"] == pytest.approx(
        {"spearman": 1, "auroc_of_wrong": 1, "aurc": aurc(error, error)[0], "excess_aurc": 0,
         "low_uncertainty": 0.15, "high_uncertainty": 6, "gap": -5.85}
    )  # fmt: skip
    with pytest.raises(UserError, match="expected 4 finite numbers"):
        assess({"x": np.full(4, np.nan)}, error, np.arange(4), quality=lambda w: mean(error, w))
    with pytest.raises(UserError, match="at least one definition"):
        assess({}, error, np.arange(4), quality=lambda w: mean(error, w))


def test_uncertainty_of_scores() -> None:
    sure, torn = [50.0, 0.0, 0.0], [3.0, 3.0, -40.0]
    found = class_uncertainties(np.array([sure, torn]))
    np.testing.assert_allclose(found["entropy"], [0, np.log(2)], atol=1e-9)
    np.testing.assert_allclose(found["margin"], [-50, 0])
    found = detection_uncertainties(np.array([[0.0, 0.0], [1000.0, -1000.0]]))
    np.testing.assert_allclose(found["entropy"], [np.log(2), 0], atol=1e-9)
    np.testing.assert_allclose(found["margin"], [0, -1000])


def test_variance_estimate_sums_the_embedding_variances() -> None:
    vectors = torch.eye(2)
    assert variance_of(Embedding(vectors)) == {}
    got = variance_of(Embedding(vectors, log_variance=torch.tensor([[0.0, 0.0], [-1.0, -2.0]])))["variance"]
    np.testing.assert_allclose(got, [2, np.exp(-1) + np.exp(-2)], rtol=1e-6)
