"""Scores of a classifier, each with its interval; areas and calibration by torchmetrics."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.embedding.scoring import TIE
from mmalign.evaluation.metrics import bootstrap as boot

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
    from torchmetrics.functional.classification import multilabel_auroc

    positives = truth.sum(dim=0)
    return _macro(multilabel_auroc, truth, scores, (positives > 0) & (positives < len(truth)))


def mean_average_precision(truth: Tensor, scores: Tensor) -> float:
    """Average precision of each class, mean over classes with at least one positive; NaN if none has."""
    from torchmetrics.functional.classification import multilabel_average_precision

    return _macro(multilabel_average_precision, truth, scores, truth.any(dim=0))


def _macro(area: Callable[..., Tensor], truth: Tensor, scores: Tensor, defined: Tensor) -> float:
    number = int(defined.sum())
    if not number:
        return float("nan")
    # torchmetrics takes what lies outside [0, 1] for logits and squeezes it until neighbours tie: keep the order exact.
    low, high = scores.double().aminmax()
    between = (scores.double() - low) / (high - low).clamp(min=torch.finfo(torch.float64).tiny)
    kept = between[:, defined], truth[:, defined].long()
    # It wants at least two labels: one is counted twice.
    if number == 1:
        kept = kept[0].expand(-1, 2), kept[1].expand(-1, 2)
    areas = area(*kept, num_labels=max(2, number), average="none", validate_args=False)
    return float(areas.double().mean())


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
