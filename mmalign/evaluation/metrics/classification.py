"""Classification metrics with bootstrap intervals: accuracy, areas under curves, calibration error."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.embedding.scoring import TIE
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics.weighted import (
    Bools,
    Floats,
    auroc,
    average_precision,
    calibration_error,
    once,
    over_classes,
)

Scored = tuple[dict[str, Any], dict[str, Any], int]

_CELLS = 5 * 10**8  # samples x classes x resamples: a few minutes on one core
_FEWEST = 50  # resamples below which an interval is too coarse to report


@dataclass(frozen=True)
class Classified:
    """Scores and labels of a classifier's samples.

    Args:
        scores: `(n, classes)`, finite.
        truth: `(n, classes)`, True = the sample has the label.
        records: Index of the record of each sample, `(n,)`.
        names: Class names.
        scale: Factor from scores to logits.
    """

    scores: Tensor
    truth: Tensor
    records: Tensor
    names: Sequence[str]
    scale: float = 1.0


def single_label_scores(classified: Classified, *, resamples: int = 1000, seed: int = 0) -> Scored:
    """Compute top1, top5 (from six classes on), balanced_accuracy, macro_auroc and ece of single-label samples.

    Returns:
        Scores; details for figures; number of bootstrap resamples of macro_auroc and ece.
    """
    from sklearn.metrics import balanced_accuracy_score

    target = classified.truth.long().argmax(dim=1)
    predicted, rank = decide(classified.scores, target)
    names, records = classified.names, classified.records.numpy()
    columns = {"top1": rank < 1} | ({"top5": rank < 5} if len(names) > 5 else {})
    values = torch.stack([column.double() for column in columns.values()], dim=1)
    figures: dict[str, Any] = dict(zip(columns, values.mean(dim=0).tolist(), strict=True))
    with warnings.catch_warnings():
        # A predicted class without samples has no recall and is left out.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        figures["balanced_accuracy"] = float(balanced_accuracy_score(target.numpy(), predicted.numpy()))
    probabilities = (classified.scale * classified.scores.double()).softmax(dim=1)
    figures["macro_auroc"] = macro_auroc(classified.truth, probabilities)
    confidence, right = probabilities.amax(dim=1).numpy(), (predicted == target).numpy()
    figures["ece"] = float(calibration_error(confidence, right)[0])

    costly = _affordable(classified, resamples)
    if resamples:
        intervals = boot.means(values.numpy(), records, resamples=resamples, seed=seed)
        figures |= {f"{name}_ci": interval for name, interval in zip(columns, intervals, strict=True)}
        figures["balanced_accuracy_ci"] = boot.class_means(
            values[:, 0].numpy(), target.numpy(), records, resamples=resamples, seed=seed
        )
    if costly:
        truth, chances = classified.truth.numpy(), probabilities.numpy()

        def statistic(weights: Floats) -> Floats:
            return np.stack([_areas(truth, chances, weights), calibration_error(confidence, right, weights)], axis=1)

        area, error = boot.weighted(statistic, records, resamples=costly, seed=seed)
        figures |= {"macro_auroc_ci": area, "ece_ci": error}
    confusion = torch.zeros(len(names), len(names), dtype=torch.long)
    confusion.index_put_((target, predicted), torch.ones_like(target), accumulate=True)
    recall = [int(row[i]) / total if (total := int(row.sum())) else None for i, row in enumerate(confusion)]
    figures["per_class_recall"] = dict(zip(names, recall, strict=True))
    details = {"confusion": confusion, "probabilities": probabilities, "predicted": predicted, "rank": rank}
    return _ordered(figures), details, costly


def multi_label_scores(classified: Classified, *, resamples: int = 1000, seed: int = 0) -> Scored:
    """Compute map and macro_auroc of samples with any number of labels; returns as `single_label_scores`."""
    truth, scores = classified.truth.numpy(), classified.scores.double().numpy()
    figures: dict[str, Any] = {
        "map": mean_average_precision(classified.truth, classified.scores),
        "macro_auroc": macro_auroc(classified.truth, classified.scores),
    }
    costly = _affordable(classified, resamples)
    if costly:

        def statistic(weights: Floats) -> Floats:
            return np.stack([_precisions(truth, scores, weights), _areas(truth, scores, weights)], axis=1)

        intervals = boot.weighted(statistic, classified.records.numpy(), resamples=costly, seed=seed)
        figures |= {"map_ci": intervals[0], "macro_auroc_ci": intervals[1]}
    return _ordered(figures), {"scores": classified.scores}, costly


def class_columns(classified: Classified, details: Mapping[str, Any]) -> dict[str, Any]:
    """One row per sample with one label: truth, prediction, their probabilities, the rank of the truth, the entropy.

    Args:
        classified: The samples.
        details: As `single_label_scores` returns them.
    """
    target, names = classified.truth.long().argmax(dim=1), classified.names
    predicted, probabilities = details["predicted"], details["probabilities"]

    def of(classes: Tensor) -> Any:
        return probabilities.gather(1, classes[:, None]).squeeze(1).numpy()

    return {
        "truth": [names[k] for k in target.tolist()],
        "prediction": [names[k] for k in predicted.tolist()],
        "probability": of(predicted),
        "truth_probability": of(target),
        "truth_rank": (details["rank"] + 1).numpy(),
        "entropy": -torch.special.xlogy(probabilities, probabilities).sum(dim=1).numpy(),
    }


def label_columns(
    names: Sequence[str], truth: Bools, scores: Floats, thresholds: Floats | None = None
) -> dict[str, Any]:
    """One row per sample with any number of labels: for each class `truth/CLASS`, `score/CLASS`, `prediction/CLASS`.

    Args:
        names: Class names.
        truth: `(n, classes)`.
        scores: `(n, classes)`.
        thresholds: `(classes,)`, `score > threshold` = predicted; NaN, or no thresholds = no prediction.
    """
    columns: dict[str, Any] = {}
    for k, name in enumerate(names):
        columns |= {f"truth/{name}": truth[:, k], f"score/{name}": scores[:, k]}
        if thresholds is not None and not np.isnan(thresholds[k]):
            columns[f"prediction/{name}"] = scores[:, k] > thresholds[k]
    return columns


def macro_auroc(truth: Tensor, scores: Tensor) -> float:
    """One-vs-rest AUROC, mean over classes that have both outcomes; NaN if none has.

    Args:
        truth: `(n, classes)`, True = has the label.
        scores: `(n, classes)`, higher = more positive.
    """
    return float(_areas(truth.numpy(), scores.double().numpy(), once(len(truth)))[0])


def mean_average_precision(truth: Tensor, scores: Tensor) -> float:
    """Average precision, mean over classes with at least one positive; NaN if none has. Shapes as `macro_auroc`."""
    return float(_precisions(truth.numpy(), scores.double().numpy(), once(len(truth)))[0])


def _areas(truth: Bools, scores: Floats, weights: Floats) -> Floats:
    """Macro AUROC of each draw, `(draws,)`."""
    classes = np.flatnonzero(truth.any(axis=0))
    if not len(classes):
        return np.full(len(weights), np.nan)
    return over_classes(np.stack([auroc(truth[:, k], scores[:, k], weights) for k in classes], axis=1))


def _precisions(truth: Bools, scores: Floats, weights: Floats) -> Floats:
    """Mean average precision of each draw, `(draws,)`; a class of positives alone has precision 1."""
    classes = np.flatnonzero(truth.any(axis=0))
    if not len(classes):
        return np.full(len(weights), np.nan)
    columns = []
    for k in classes:
        only_positives = (weights @ ~truth[:, k] == 0) & (weights @ truth[:, k] > 0)
        columns.append(np.where(only_positives, 1.0, average_precision(truth[:, k], scores[:, k], weights)))
    return over_classes(np.stack(columns, axis=1))


def decide(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The predicted class, and the rank of the true one; among equal scores the true class comes last."""
    margin = TIE * scores.abs().amax(dim=1)
    true = scores.gather(1, target[:, None]).squeeze(1)
    wrong = scores.scatter(1, target[:, None], -torch.inf)
    rank = (wrong >= (true - margin)[:, None]).sum(dim=1)
    return torch.where(rank < 1, target, wrong.argmax(dim=1)), rank


def _affordable(classified: Classified, resamples: int) -> int:
    costly = min(resamples, _CELLS // max(1, classified.scores.numel()))
    return costly if costly >= min(_FEWEST, resamples) else 0


def _ordered(figures: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in figures if not name.endswith("_ci")]
    keys = [key for name in names for key in (name, f"{name}_ci")]
    return {key: figures[key] for key in keys if key in figures and figures[key] != []}
