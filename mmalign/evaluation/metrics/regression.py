"""Zero-shot regression: predictions from scores of prompts that contain a value, and their metrics."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import with_intervals
from mmalign.evaluation.metrics.selective_prediction import UncertaintyReport, assess
from mmalign.evaluation.metrics.weighted import Bools, Floats, auroc, balanced_accuracy, mean, r_squared, spearman
from mmalign.registry import nearest

PREDICTIONS = ("mean", "median")


class Predicted(NamedTuple):
    """Predictions from prompts for each sample.

    Args:
        values: The predicted number, `(n,)`.
        spread: Standard deviation of the values that the prediction averages, `(n,)`.
        entropy: Of the softmax over values, `(n,)`, in nats.
        score_variance: Variance of the scores over the templates of one value, mean over values, `(n,)`; 0 with one.
    """

    values: Floats
    spread: Floats
    entropy: Floats
    score_variance: Floats

    def uncertainties(self) -> dict[str, Floats]:
        """Uncertainty estimates for `assess`."""
        varied = {"score variance": self.score_variance} if self.score_variance.any() else {}
        return {"spread": self.spread, "entropy": self.entropy, **varied}


def predict(
    scores: Floats,
    values: tuple[float, ...],
    *,
    prediction: str = "mean",
    temperature: float = 1.0,
    top: float = 0.2,
) -> Predicted:
    """Predict a number from the scores of prompts.

    `mean`: the expected value, `sum_v v softmax_v(mean over templates of the score / temperature)`.
    `median`: of the values of the prompts that score highest, all templates together (EchoCLIP, Christensen et al.
    2024, doi 10.1038/s41591-024-02959-y, with top 0.2).

    Args:
        scores: `(n, values, templates)`, higher = more similar.
        values: The numbers.
        prediction: mean or median.
        temperature: Divides the scores in the softmax.
        top: Fraction of the `values x templates` prompts of which the median is taken; at least one prompt.

    Raises:
        UserError: an unknown `prediction`, or a number out of its range.

    Example:
        >>> predict(np.array([[[0.0], [1.0], [0.0]]]), (10.0, 20.0, 30.0), temperature=0.01).values
        array([20.])
    """
    if prediction not in PREDICTIONS:
        raise UserError(f"no prediction called {prediction!r}{nearest(prediction, PREDICTIONS)}")
    if not temperature > 0:
        raise UserError(f"--temperature: expected a number above 0, got {temperature}")
    if not 0 < top <= 1:
        raise UserError(f"--top: expected a fraction above 0, at most 1, got {top}")
    numbers = np.asarray(values)
    logits = scores.mean(axis=2) / temperature
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    entropy = -(chance * np.log(np.maximum(chance, 1e-300))).sum(axis=1)
    if prediction == "mean":
        said = chance @ numbers
        spread = np.sqrt(np.maximum((chance * (numbers - said[:, None]) ** 2).sum(axis=1), 0.0))
    else:
        flat = scores.reshape(len(scores), -1)
        best = np.argsort(-flat, axis=1, kind="stable")[:, : max(1, int(top * flat.shape[1] + 1e-9))]
        chosen = np.repeat(numbers, scores.shape[2])[best]
        said, spread = np.median(chosen, axis=1), chosen.std(axis=1)
    return Predicted(said, spread, entropy, scores.var(axis=2).mean(axis=1))


def number_measures(
    truth: Floats, predicted: Floats, *, threshold: float | None = None, cut: float | None = None
) -> dict[str, Callable[[Floats], Floats]]:
    """Metrics as functions of weights `(draws, n)`: mae, rmse, r2, spearman; with a threshold auroc and more."""
    measures: dict[str, Callable[[Floats], Floats]] = {
        "mae": lambda weights: mean(np.abs(predicted - truth), weights),
        "rmse": lambda weights: np.sqrt(mean((predicted - truth) ** 2, weights)),
        "r2": lambda weights: r_squared(truth, predicted, weights),
        "spearman": lambda weights: spearman(truth, predicted, weights),
    }
    if threshold is not None:
        high: Bools = truth >= threshold
        measures["auroc"] = lambda weights: auroc(high, predicted, weights)
        measures["balanced_accuracy"] = lambda weights: balanced_accuracy(high, predicted >= threshold, weights)
        if cut is not None:
            measures["balanced_accuracy_tuned"] = lambda weights: balanced_accuracy(high, predicted > cut, weights)
    return measures


def number_figures(
    truth: Floats,
    predicted: Floats,
    groups: Any,
    *,
    threshold: float | None = None,
    cut: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The metrics of `number_measures`, each with its interval; undefined ones are left out.

    Args:
        truth: `(n,)`.
        predicted: `(n,)`.
        groups: Resampling unit of each row, `(n,)`.
        threshold: Also classify predictions and truth as below this number or not.
        cut: Another threshold, applied to the predictions only: `balanced_accuracy_tuned`.
        resamples: 0 = no intervals.
        seed: Seed of the draws.
    """
    measures = number_measures(truth, predicted, threshold=threshold, cut=cut)

    def statistic(weights: Floats) -> Floats:
        return np.stack([measure(weights) for measure in measures.values()], axis=1)

    figures = with_intervals(statistic, list(measures), groups, resamples=resamples, seed=seed)[""]
    return {name: value for name, value in figures.items() if not (isinstance(value, float) and np.isnan(value))}


def number_uncertainty(
    truth: Floats,
    said: Predicted,
    variance: Mapping[str, Floats],
    groups: Any,
    *,
    threshold: float | None = None,
    cut: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> UncertaintyReport:
    """Selective prediction by absolute error; with a threshold, the halves are compared by balanced accuracy.

    Args:
        truth: `(n,)`.
        said: The predictions and their uncertainty estimates.
        variance: The model's embedding variance, as `variance`, or empty.
        groups: Resampling unit of each row, `(n,)`.
        threshold: A prediction on the wrong side of it is wrong; default: errors above the median are.
        cut: Threshold applied to the predictions instead.
        resamples: 0 = no intervals.
        seed: Seed of the draws.
    """
    error = np.abs(said.values - truth)
    definitions = {**variance, **said.uncertainties()}
    if threshold is None:
        return assess(definitions, error, groups, quality=lambda weights: mean(error, weights), wanted="mae",
                      resamples=resamples, seed=seed)  # fmt: skip
    high, bar = truth >= threshold, threshold if cut is None else cut
    called = said.values >= bar
    return assess(
        definitions | {"margin": -np.abs(said.values - bar)},
        error,
        groups,
        quality=lambda weights: balanced_accuracy(high, called, weights),
        wanted="balanced_accuracy" if cut is None else "balanced_accuracy_tuned",
        wrong=high != called,
        resamples=resamples,
        seed=seed,
    )
