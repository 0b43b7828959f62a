"""Few-shot classification: n-way k-shot folds, a linear head on the frozen vectors of one tower."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.geometry import unit
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.weighted import Floats, Ints
from mmalign.evaluation.probing.features import sample_tower, tower_features
from mmalign.evaluation.probing.folds import Fold, draw_fold, eligible_classes
from mmalign.evaluation.probing.linear_models import logistic
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.model import Aligner

SHOTS = (5,)
STRENGTH = 1.0
HEADS = ("linear head", "nearest class mean")
PROTOCOL = {
    "folds": "each draws its classes, then support (training) and query (test) samples of each class, all from the "
    "evaluated split; a group, or a record without group, is never on both sides; the folds depend on the data and the "
    "seed, not on the model",
    "linear head": "features standardised on the support samples; multinomial logistic regression, L2 penalty, "
    f"C = {STRENGTH:g}; nothing is chosen on query samples",
    "nearest class mean": "largest cosine with the mean of the class's unit vectors",
    "accuracy": "fraction of the query samples, mean over folds; sd: standard deviation over folds (n - 1)",
    "samples": "every alternative of every record with exactly one label",
}


@dataclass(frozen=True)
class FewShot(Task):
    """Few-shot classification: n-way k-shot folds, a linear head on the frozen vectors of one tower.

    Args:
        ways: Classes per fold.
        shots: Training records per class; few-shot: default 5.
        queries: Test samples per class and fold.
        folds: Number of folds.
        features: `encoder`, the input of the head, or `embedding`, the vectors of the shared space.
    """

    name: ClassVar[str] = "few-shot"

    ways: int = 5
    shots: Sequence[int] = ()
    queries: int = 10
    folds: int = 10
    features: str = "encoder"

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The first tower whose samples are files or arrays, or the first, as in the linear probe."""
        return (sample_tower(model, pair),)

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Fit a linear head on the support samples of each fold and measure it on the query samples.

        Returns:
            `accuracy`, a table with the rows `linear head` and `nearest class mean` of each number of shots;
            `fold_accuracies`, by the same names, the accuracy of every fold. `details`: `folds`, the `Fold`s by number
            of shots, `classes` `(n,)` and `names` of the classes, `groups` `(n,)`.

        Raises:
            UserError: a setting below its minimum, no labels, or too few classes or samples.
        """
        (tower,) = towers
        shots = tuple(self.shots) or SHOTS
        for flag, values, least in (("ways", (self.ways,), 2), ("shots", shots, 1), ("queries", (self.queries,), 1),
                                    ("folds", (self.folds,), 1)):  # fmt: skip
            if min(values) < least:
                raise UserError(f"--{flag}: expected at least {least}, got {min(values)}")
        features, rows = tower_features(
            model, data, tower, settings.split, kind=self.features, batch_size=settings.batch_size
        )
        records = data.split(settings.split).records
        labels = [record.labels for record in records]
        single = np.array([len(labels[row]) == 1 for row in rows.tolist()], dtype=np.bool_)
        if not single.any():
            raise UserError(
                f"few-shot needs records with exactly one label, split {settings.split!r} has none; "
                "name the column with --data.columns.label"
            )
        named = [labels[row][0] for row, one_label in zip(rows.tolist(), single, strict=True) if one_label]
        names = sorted(set(named))
        classes = np.array([names.index(name) for name in named], dtype=np.int64)
        features, groups = features[single], groups_of(records, rows)[single]
        drawn: dict[int, list[Fold]] = {}
        by_setting: dict[str, Any] = {}
        by_fold: dict[str, list[float]] = {}
        for number in shots:
            drawn[number] = [
                draw_fold(classes, groups, ways=self.ways, shots=number, queries=self.queries, seed=(settings.seed, at))
                for at in range(self.folds)
            ]
            each = np.array([accuracies(features, fold) for fold in drawn[number]])
            eligible = len(eligible_classes(classes, groups, number, self.queries))
            for head, values in zip(HEADS, each.T, strict=True):
                title = f"{self.ways}-way {number}-shot, {head}"
                by_fold[title] = values.tolist()
                by_setting[title] = {
                    "accuracy": float(values.mean()),
                    "sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                    "lowest": float(values.min()),
                    "highest": float(values.max()),
                    "eligible_classes": eligible,
                }
        scores: dict[str, Any] = {
            "chance": 1 / self.ways,
            "ways": self.ways,
            "queries": self.queries,
            "folds": self.folds,
            "n": len(classes),
            "excluded": int((~single).sum()),
            "classes": len(names),
            "groups": len(np.unique(groups)),
            "accuracy": by_setting,
            "fold_accuracies": by_fold,
        }
        protocol = PROTOCOL | {"tower": tower, "features": self.features}
        origin = settings.provenance(model, data, protocol, resamples=0)
        details = {"folds": drawn, "classes": classes, "names": names, "groups": groups}
        return EvalResult(self.name, scores, origin, details)


def accuracies(features: Floats, fold: Fold) -> tuple[float, float]:
    """Accuracy on the query samples of a fold: of the linear head, and of the nearest class mean.

    Args:
        features: `(n, width)`, finite.
        fold: Indices into `features`.
    """
    ways, shots = fold.support.shape
    support, query = features[fold.support.ravel()], features[fold.query.ravel()]
    truth = np.repeat(np.arange(ways), fold.query.shape[1])
    head = logistic(support, np.repeat(np.eye(ways, dtype=np.bool_), shots, axis=0), query, STRENGTH)
    return _right(head, truth), _right(class_mean_scores(support.reshape(ways, shots, -1), query), truth)


def class_mean_scores(support: Floats, query: Floats) -> Floats:
    """Cosine of each query sample with each class mean, the mean of unit vectors.

    Args:
        support: `(ways, shots, width)`.
        query: `(queries, width)`.

    Returns:
        `(queries, ways)`; a vector of length 0 has cosine 0.

    Example:
        >>> class_mean_scores(np.array([[[2.0, 0.0]], [[0.0, 3.0]]]), np.array([[5.0, 0.0]])).tolist()
        [[1.0, 0.0]]
    """
    return np.asarray(unit(query) @ unit(unit(support).mean(axis=1)).T)


def _right(scores: Floats, truth: Ints) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
