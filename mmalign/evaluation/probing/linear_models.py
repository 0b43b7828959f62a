"""Linear probes: standardised features, logistic regression or ridge, with the penalty chosen on held-out rows."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmalign.evaluation.metrics.weighted import Bools, Floats, Ints, auroc, over_classes, with_both

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of logistic regression, 1 / alpha of ridge
DEFAULT = 1.0
_FOLDS = 3

Fit = Callable[[Floats, Any, Floats, float], Floats]
"""Features, truth, features to predict for, strength -> predictions."""


def probe(
    fit: Fit,
    quality: Callable[[Any, Floats], float],
    features: Floats,
    truth: Any,
    judged: Floats,
    *,
    groups: Ints,
    held_out: tuple[Floats, Any] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[Floats, float]:
    """Choose the penalty, fit on all rows, predict.

    The penalty is the strongest of the best ones on `held_out`; without held-out rows, in three folds of whole groups;
    if neither defines the quality, it is 1.

    Args:
        fit: `logistic`, `one_vs_rest` or `ridge`.
        quality: Truth and predictions -> quality, higher = better; NaN = undefined.
        features: `(n, width)`.
        truth: `(n, …)`.
        judged: `(m, width)`.
        groups: Rows that stay together in a fold, `(n,)`.
        held_out: Features and truth of the held-out rows.
        strengths: Inverse penalties.

    Returns:
        Predictions for `judged`, and the chosen strength.
    """
    if held_out is not None:
        qualities = [quality(held_out[1], fit(features, truth, held_out[0], strength)) for strength in strengths]
    else:
        qualities = _by_folds(fit, quality, features, truth, groups, strengths)
    known = [(-value, strength) for value, strength in zip(qualities, strengths, strict=True) if not np.isnan(value)]
    strength = min(known)[1] if known else DEFAULT
    return fit(features, truth, judged, strength), strength


def logistic(features: Floats, truth: Bools, judged: Floats, strength: float) -> Floats:
    """Probabilities of classes that exclude each other, `(m, classes)`, by multinomial logistic regression.

    A class absent from the training rows has probability 0.
    """
    target = truth.argmax(axis=1)
    present = np.unique(target)
    said = np.zeros((len(judged), truth.shape[1]))
    said[:, present] = 1.0 if len(present) == 1 else _probabilities(features, target, judged, strength)
    return said


def one_vs_rest(features: Floats, truth: Bools, judged: Floats, strength: float) -> Floats:
    """Probability of each class, `(m, classes)`; of a class that all or no training rows have, its frequency."""
    said = np.tile(truth.mean(axis=0), (len(judged), 1))
    for column in np.flatnonzero(with_both(truth)):
        said[:, column] = _probabilities(features, truth[:, column], judged, strength)[:, 1]
    return said


def ridge(features: Floats, truth: Floats, judged: Floats, strength: float) -> Floats:
    """Predicted numbers, `(m,)`, by ridge regression."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), Ridge(alpha=1 / strength)).fit(features, truth)
    return np.asarray(fitted.predict(judged))


def mean_area(truth: Bools, said: Floats) -> float:
    """Macro AUROC: the criterion for the penalty of a classifier."""
    areas = [auroc(truth[:, column], said[:, column])[0] for column in range(truth.shape[1])]
    return float(over_classes(np.array(areas)))


def less_error(truth: Floats, said: Floats) -> float:
    """Negative mean squared error: the criterion for the penalty of a regression."""
    return float(-((truth - said) ** 2).mean())


def _probabilities(features: Floats, target: Any, judged: Floats, strength: float) -> Floats:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    with warnings.catch_warnings():
        # After a thousand steps the ranking of the rows no longer changes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(features, target)
    return np.asarray(fitted.predict_proba(judged))


def _by_folds(
    fit: Fit, quality: Callable[[Any, Floats], float], features: Floats, truth: Any, groups: Ints, strengths: Any
) -> list[float]:
    from sklearn.model_selection import GroupKFold

    if len(np.unique(groups)) < 2 * _FOLDS:
        return [float("nan")] * len(strengths)
    folds = list(GroupKFold(_FOLDS).split(features, groups=groups))
    qualities = []
    for strength in strengths:
        each = [quality(truth[out], fit(features[into], truth[into], features[out], strength)) for into, out in folds]
        qualities.append(float(over_classes(np.array(each))))
    return qualities
