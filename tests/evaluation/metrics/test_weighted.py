"""Weighted areas and errors against scikit-learn and SciPy on the rows that the weights stand for."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics.weighted import (
    auroc,
    average_precision,
    balanced_accuracy,
    best_threshold,
    mean,
    over_classes,
    r_squared,
    spearman,
)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores with ties, and five draws; some rows are drawn never, some often."""
    rng = np.random.default_rng(3)
    truth = rng.random(60) < 0.3
    scores = np.round(rng.standard_normal(60) + truth, 1)
    return truth, scores, np.stack([np.bincount(rng.integers(0, 60, 60), minlength=60) for _ in range(5)]).astype(float)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (auroc, metrics.roc_auc_score),
        (average_precision, metrics.average_precision_score),
        (
            lambda t, s, w=None: balanced_accuracy(t, s > 0.5, w),
            lambda t, s: metrics.balanced_accuracy_score(t, s > 0.5),
        ),
        (lambda t, s, w=None: r_squared(100 + t * 1.0, 100 + s, w), lambda t, s: metrics.r2_score(t, s)),
        (lambda t, s, w=None: spearman(np.exp(s), t - s, w), lambda t, s: stats.spearmanr(s, t - s).statistic),
        (lambda t, s, w=None: mean(np.abs(t - s), w), metrics.mean_absolute_error),
    ],
    ids=["auroc", "average precision", "balanced accuracy", "r squared", "spearman", "mean"],
)
def test_equals_the_repeated_rows(ours: Callable[..., np.ndarray], theirs: Callable[..., float], drawn: tuple) -> None:
    truth, scores, weights = drawn
    np.testing.assert_allclose(ours(truth, scores), [theirs(truth, scores)], rtol=1e-12)
    rows = [np.repeat(np.arange(60), weight.astype(int)) for weight in weights]
    np.testing.assert_allclose(
        ours(truth, scores, weights), [theirs(truth[row], scores[row]) for row in rows], rtol=1e-12
    )


def test_metrics_without_positives_or_negatives_are_nan() -> None:
    truth, scores = np.array([True, True, False]), np.array([0.1, 0.5, 0.9])
    lacking = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0], [1.0, 1.0, 1.0]])
    for measure in (auroc, average_precision, lambda t, s, w: balanced_accuracy(t, s > 0.3, w)):
        assert np.isnan(measure(truth, scores, lacking)).tolist() == [True, True, False]
    assert np.isnan(spearman(scores, np.full(3, 0.1)))
    assert np.isnan(r_squared(np.full(3, 0.1), scores))
    np.testing.assert_array_equal(over_classes(np.array([[1.0, np.nan, 3.0], [np.nan] * 3])), [2.0, np.nan])


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_maximises_balanced_accuracy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(25) < 0.4
    scores = np.round(rng.standard_normal(25) + truth, 1)
    got = best_threshold(truth, scores)
    different = {tuple(scores > t) for t in np.arange(-5, 5, 0.01)}  # most thresholds divide the rows alike
    tried = [metrics.balanced_accuracy_score(truth, row) for row in different]
    assert metrics.balanced_accuracy_score(truth, scores > got) == pytest.approx(max(tried))
    assert got not in scores


def test_best_threshold_may_predict_all_positive() -> None:
    """Scores the wrong way round: nothing beats calling everything positive, or one alike."""
    truth, scores = np.array([False, True]), np.array([1.0, 1.0])
    assert (scores > best_threshold(truth, scores)).all()
    with pytest.raises(ValueError, match="positives and negatives"):
        best_threshold(np.array([True]), np.array([1.0]))


def test_a_draw_of_groups_is_wider() -> None:
    """Twenty copies of five patients say no more than five patients: by rows the interval would be far too narrow."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal(8), 20)
    groups = np.repeat(np.arange(8), 20)
    width = [
        np.ptp(boot.weighted(lambda w: mean(values, w)[:, None], drawn, resamples=400, seed=1)[0])
        for drawn in (np.arange(160), groups)
    ]
    assert width[1] > 3 * width[0]


def test_weighted_equals_recomputed() -> None:
    values, records = np.arange(12.0) ** 2, np.arange(12) // 2
    again = boot.recomputed(lambda rows: np.array([values[rows].mean()]), records, resamples=50, seed=4)
    assert boot.weighted(lambda w: mean(values, w)[:, None], records, resamples=50, seed=4)[0] == pytest.approx(
        again[0]
    )
