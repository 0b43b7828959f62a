"""Scores of a classifier, each with its interval; areas and calibration by scikit-learn and torchmetrics."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.evaluation import bootstrap as boot
from mmalign.evaluation.ranks import TIE

Found = tuple[dict[str, Any], dict[str, Any], int]

_COSTLY = 200  # resamples of what is computed anew for each
_CELLS = 10**8  # samples x classes x resamples: about a minute
_FEWEST = 50  # resamples below which an interval says nothing


@dataclass(frozen=True)
class Classified:
    """What a classifier said, and what is true.

    Args:
        scores: `(n, classes)`, finite.
        truth: `(n, classes)`, True = has the label.
        records: Which record each sample belongs to, `(n,)`.
        names: Of the classes.
        scale: What turns scores into logits.
    """

    scores: Tensor
    truth: Tensor
    records: Tensor
    names: Sequence[str]
    scale: float = 1.0


def single_label_scores(given: Classified, *, resamples: int = 1000, seed: int = 0) -> Found:
    """top1, top5 (from six classes on), balanced_accuracy, macro_auroc and ece of samples with one label each.

    Returns:
        Scores; details for pictures; how many resamples macro_auroc and ece had.
    """
    from sklearn.metrics import balanced_accuracy_score

    target = given.truth.long().argmax(dim=1)
    predicted, rank = _decide(given.scores, target)
    names, records = given.names, given.records.numpy()
    columns = {"top1": rank < 1} | ({"top5": rank < 5} if len(names) > 5 else {})
    values = torch.stack([column.double() for column in columns.values()], dim=1)
    found: dict[str, Any] = dict(zip(columns, values.mean(dim=0).tolist(), strict=True))
    with warnings.catch_warnings():
        # A class that is predicted but has no sample here is no fault: it has no recall to count.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        found["balanced_accuracy"] = float(balanced_accuracy_score(target.numpy(), predicted.numpy()))
    probabilities = (given.scale * given.scores.double()).softmax(dim=1)
    found["macro_auroc"] = macro_auroc(given.truth, probabilities)
    found["ece"] = calibration_error(probabilities, predicted, target)

    costly = _affordable(given, resamples)
    if resamples:
        intervals = boot.means(values.numpy(), records, resamples=resamples, seed=seed)
        found |= {f"{name}_ci": interval for name, interval in zip(columns, intervals, strict=True)}
        found["balanced_accuracy_ci"] = boot.class_means(
            values[:, 0].numpy(), target.numpy(), records, resamples=resamples, seed=seed
        )
    if costly:

        def again(rows: boot.Ints) -> boot.Floats:
            drawn = torch.from_numpy(rows)
            area = macro_auroc(given.truth[drawn], probabilities[drawn])
            error = calibration_error(probabilities[drawn], predicted[drawn], target[drawn])
            return np.array([area, error])

        area, error = boot.recomputed(again, records, resamples=costly, seed=seed)
        found |= {"macro_auroc_ci": area, "ece_ci": error}
    confusion = torch.zeros(len(names), len(names), dtype=torch.long)
    confusion.index_put_((target, predicted), torch.ones_like(target), accumulate=True)
    recall = [int(row[i]) / total if (total := int(row.sum())) else None for i, row in enumerate(confusion)]
    found["per_class_recall"] = dict(zip(names, recall, strict=True))
    details = {"confusion": confusion, "probabilities": probabilities, "predicted": predicted}
    return _ordered(found), details, costly


def multi_label_scores(given: Classified, *, resamples: int = 1000, seed: int = 0) -> Found:
    """The scores map and macro_auroc of samples with any number of labels each; returns as `single_label_scores`."""
    found: dict[str, Any] = {
        "map": mean_average_precision(given.truth, given.scores),
        "macro_auroc": macro_auroc(given.truth, given.scores),
    }
    costly = _affordable(given, resamples)
    if costly:

        def again(rows: boot.Ints) -> boot.Floats:
            drawn = torch.from_numpy(rows)
            truth, scores = given.truth[drawn], given.scores[drawn]
            return np.array([mean_average_precision(truth, scores), macro_auroc(truth, scores)])

        intervals = boot.recomputed(again, given.records.numpy(), resamples=costly, seed=seed)
        found |= {"map_ci": intervals[0], "macro_auroc_ci": intervals[1]}
    return _ordered(found), {"scores": given.scores}, costly


def macro_auroc(truth: Tensor, scores: Tensor) -> float:
    """Area under the ROC curve of each class against the rest, mean over classes that have both; NaN if none has."""
    from sklearn.metrics import roc_auc_score

    positives = truth.sum(dim=0)
    defined = (positives > 0) & (positives < len(truth))
    if not bool(defined.any()):
        return float("nan")
    columns = zip(truth[:, defined].T.numpy(), scores[:, defined].T.numpy(), strict=True)
    return float(np.mean([roc_auc_score(is_class, score) for is_class, score in columns]))


def mean_average_precision(truth: Tensor, scores: Tensor) -> float:
    """Average precision of each class, mean over classes with at least one positive; NaN if none has."""
    from sklearn.metrics import average_precision_score

    defined = truth.any(dim=0)
    if not bool(defined.any()):
        return float("nan")
    return float(average_precision_score(truth[:, defined].numpy(), scores[:, defined].numpy(), average="macro"))


def calibration_error(probabilities: Tensor, predicted: Tensor, target: Tensor) -> float:
    """Expected calibration error of the winning class, 15 bins of equal width, L1.

    `sum over bins of (share of samples) x |accuracy - mean confidence|` (Naeini et al. 2015; Guo et al. 2017, eq. 3).
    """
    from torchmetrics.functional.classification import binary_calibration_error

    # One ulp above 1 would be taken for a logit.
    confidence = probabilities.amax(dim=1).clamp(max=1.0)
    return float(binary_calibration_error(confidence, (predicted == target).long(), n_bins=15, norm="l1"))


def _decide(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """What is predicted, and the rank of the truth; among equal scores the truth comes last."""
    margin = TIE * scores.abs().amax(dim=1)
    true = scores.gather(1, target[:, None]).squeeze(1)
    wrong = scores.scatter(1, target[:, None], -torch.inf)
    rank = (wrong >= (true - margin)[:, None]).sum(dim=1)
    return torch.where(rank < 1, target, wrong.argmax(dim=1)), rank


def _affordable(given: Classified, resamples: int) -> int:
    costly = min(_COSTLY, resamples, _CELLS // max(1, given.scores.numel()))
    return costly if costly >= min(_FEWEST, resamples) else 0


def _ordered(found: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in found if not name.endswith("_ci")]
    return {key: found[key] for name in names for key in (name, f"{name}_ci") if key in found}
