"""Linear probes on a frozen tower, compared with the same tower with random weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import groups_of, labels_of, targets_of, with_intervals
from mmalign.evaluation.metrics.regression import number_measures
from mmalign.evaluation.metrics.weighted import (
    Bools,
    Floats,
    Ints,
    auroc,
    average_precision,
    balanced_accuracy,
    mean,
    over_classes,
    with_both,
)
from mmalign.evaluation.probing.features import random_copy, sample_tower, tower_features
from mmalign.evaluation.probing.label_fractions import (
    shots_of_classes,
    strata_of_labels,
    strata_of_numbers,
    stratified_fraction,
)
from mmalign.evaluation.probing.linear_models import Fit, less_error, logistic, mean_area, one_vs_rest, probe, ridge
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.model import Aligner
from mmalign.safe_io.progress import track

FRACTIONS = (0.01, 0.1, 1.0)
Measures = dict[str, Callable[[Floats], Floats]]  # name -> weights `(draws, n)` to metrics `(draws,)`
PROTOCOL = {
    "probe": "standardised features; logistic regression (one per class where records have several labels) or ridge",
    "penalty": "the strongest of the best ones on validation; if validation is evaluated, in three folds of whole "
    "groups; if neither defines the criterion, 1",
    "random": "the same architecture with random weights, one draw per seed; initial batch normalisation statistics",
    "gain": "trained minus random, with paired draws",
    "seeds": "means over seeds of the training records and of the random weights; sd over seeds",
    "balanced_accuracy": "of the most probable class; with several labels, of probabilities above training prevalence",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group by itself",
}


@dataclass(frozen=True)
class Probing:
    """A probe's labels, fit, selection criterion and metrics.

    Args:
        truth_of: Record indices and a split -> truth `(n, …)`, and a mask of labelled rows `(n,)`.
        fit: The linear model.
        quality: Criterion for the penalty.
        strata: Truth -> stratum of each row.
        measures: Truth, predictions and the training truth -> metrics by name.
    """

    truth_of: Callable[[Any, str], tuple[Any, Bools]]
    fit: Fit
    quality: Callable[[Any, Floats], float]
    strata: Callable[[Any], Sequence[object]]
    measures: Callable[[Any, Floats, Any], Measures]


class Rows(NamedTuple):
    """Features, truth and groups of a split."""

    features: Floats
    truth: Any
    groups: Ints


@dataclass(frozen=True)
class LinearProbe(Task):
    """Linear probes on fractions of the training records, of the model and of copies with random weights.

    Args:
        target: Number to predict, one of the records' `targets`. Default: the labels.
        threshold: Also classify the prediction as below this number or not.
        features: `encoder`, the input of the head, or `embedding`, the vectors of the shared space.
        fractions: Fractions of the training records; default: 0.01, 0.1 and 1, or none where there are shots.
        shots: Training records per class; few-shot: default 5.
        seeds: Number of draws of training records and of random weights.
    """

    name: ClassVar[str] = "probe"

    target: str = ""
    threshold: float | None = None
    features: str = "encoder"
    fractions: Sequence[float] | None = None
    shots: Sequence[int] = ()
    seeds: int = 3

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The first tower whose samples are files or arrays, or the first."""
        return (sample_tower(model, pair),)

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Fit linear probes on parts of the training rows, of the model and of its random copies.

        Returns:
            `probes`, a table with the rows `trained`, `random` and `gain` for each number of training rows. `details`:
            `predicted` by row, `(seeds, n, …)`, and `truth`.

        Raises:
            UserError: no labels or numbers, no training rows, or shots of a number.
        """
        (tower,) = towers
        if settings.split in ("train", "all"):
            raise UserError(f"probes are fitted on train: expected another split to evaluate, got {settings.split!r}")
        if self.seeds < 1:
            raise UserError(f"--seeds: expected at least 1, got {self.seeds}")
        if self.target and self.shots:
            raise UserError("--shots counts records per class; with --target, use --fractions")
        data = data.read("train", "validation", settings.split)
        asked = _numbers(data, self.target, self.threshold) if self.target else _classes(data)
        fractions = FRACTIONS if self.fractions is None and not self.shots else self.fractions or ()
        held = "validation" if settings.split != "validation" and data.has("validation") else None

        def read(source: Aligner, which: str) -> Rows:
            vectors, rows = tower_features(
                source, data, tower, which, kind=self.features, batch_size=settings.batch_size
            )
            truth, known = asked.truth_of(rows, which)
            if not known.any():
                raise UserError(
                    f"split {which!r} has no row with {'the number ' + self.target if self.target else 'a label'}"
                )
            return Rows(vectors[known], truth[known], groups_of(data.split(which).records, rows)[known])

        def every(source: Aligner) -> dict[str, Rows]:
            return {which: read(source, which) for which in ("train", settings.split, *([held] if held else []))}

        trained = every(model)
        copies = [every(random_copy(model, settings.seed + step)) for step in range(self.seeds)]
        truth, groups = trained[settings.split].truth, trained[settings.split].groups
        parts: dict[str, list[Ints]] = {}
        held_truth, draws = trained["train"].truth, range(settings.seed, settings.seed + self.seeds)
        for fraction in fractions:
            parts[f"{100 * fraction:g} %"] = [stratified_fraction(asked.strata(held_truth), fraction, n) for n in draws]
        for several in self.shots:
            parts[f"{several} a class"] = [shots_of_classes(held_truth, several, n) for n in draws]
        tables: dict[str, dict[str, Any]] = {}
        predicted: dict[str, Floats] = {}
        for amount, drawn in parts.items():
            runs = {"trained": _run(asked, [trained] * self.seeds, settings.split, held, drawn),
                    "random": _run(asked, copies, settings.split, held, drawn)}  # fmt: skip
            measured = {
                name: [asked.measures(truth, one, held_truth[rows]) for one, rows in zip(said, drawn, strict=True)]
                for name, (said, _) in runs.items()
            }
            tables |= _compared(amount, measured, groups, settings.bootstrap, settings.seed)
            for name, (said, strengths) in runs.items():
                predicted[f"{amount} {name}"] = np.stack(said)
                tables[f"{amount} {name}"] |= {
                    "rows": round(np.mean([len(rows) for rows in drawn])),
                    "strength": " ".join(f"{x:g}" for x in sorted(set(strengths))),
                }
        counts = {"n": len(truth), "groups": len(np.unique(groups)), "training_rows": len(trained["train"].truth)}
        protocol = PROTOCOL | {
            "features": self.features,
            "tower": tower,
            "seeds drawn": str(self.seeds),
            "target": self.target or "labels",
        }
        origin = settings.provenance(model, data, protocol)
        details = {"truth": truth, "predicted": predicted, "groups": groups}
        return EvalResult("probe", counts | {"probes": tables}, origin, details)


def _run(
    asked: Probing, sources: Sequence[dict[str, Rows]], split: str, held: str | None, drawn: Sequence[Ints]
) -> tuple[list[Floats], list[float]]:
    """Predictions of each seed's probe for the split, and its penalty."""
    done: dict[tuple[int, bytes], tuple[Floats, float]] = {}  # the full training split is equal for all seeds
    keys = [(id(source), rows.tobytes()) for source, rows in zip(sources, drawn, strict=True)]
    for key, source, rows in track(list(zip(keys, sources, drawn, strict=True)), "fitting probes"):
        if key not in done:
            into, tuning = source["train"], source[held] if held else None
            done[key] = probe(
                asked.fit,
                asked.quality,
                into.features[rows],
                into.truth[rows],
                source[split].features,
                groups=into.groups[rows],
                held_out=(tuning.features, tuning.truth) if tuning else None,
            )
    said, strengths = zip(*(done[key] for key in keys), strict=True)
    return list(said), list(strengths)


def _compared(
    amount: str, measured: dict[str, list[Measures]], groups: Ints, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Rows `trained`, `random` and `gain` for one number of training rows, with intervals and sd over seeds."""
    names = list(measured["trained"][0])

    def by_seed(of: str, weights: Floats) -> Floats:
        return np.stack([[one[name](weights) for name in names] for one in measured[of]])  # (seeds, figures, draws)

    def statistic(weights: Floats) -> Floats:
        trained, random = (by_seed(of, weights).mean(axis=0).T for of in ("trained", "random"))
        return np.concatenate([trained, random, trained - random], axis=1)

    titles = [f"{amount} {row}/{name}" for row in ("trained", "random", "gain") for name in names]
    tables = {row: dict(figures) for row, figures in
              with_intervals(statistic, titles, groups, resamples=resamples, seed=seed).items()}  # fmt: skip
    for of in ("trained", "random"):
        spread = by_seed(of, np.ones((1, len(groups))))[:, 0, 0].std(ddof=1) if len(measured[of]) > 1 else 0.0
        tables[f"{amount} {of}"][f"{names[0]}_sd"] = float(spread)
    return tables


def _classes(data: Dataset) -> Probing:
    names = sorted({label for record in data.records for label in record.labels})
    if not names:
        raise UserError("a probe needs labels, or a number: --data.columns.label COLUMN, or --target NAME")
    # With one class, records without a label are negatives; with exclusive classes they are unlabelled.
    several = len(names) == 1 or max(len(record.labels) for record in data.records) > 1

    def truth_of(rows: Any, split: str) -> tuple[Bools, Bools]:
        truth = labels_of(data.split(split).records, rows, names)
        return truth, np.asarray(truth.any(axis=1) | several)

    def measures(truth: Bools, said: Floats, trained: Bools) -> Measures:
        columns = np.flatnonzero(with_both(truth)).tolist()
        if not columns:
            raise UserError(
                f"no class of {', '.join(names)} has rows with and without this label in the evaluated split"
            )
        best = said.argmax(axis=1)

        def over(one: Callable[[int, Floats], Floats]) -> Callable[[Floats], Floats]:
            return lambda weights: over_classes(np.stack([one(k, weights) for k in columns], axis=1))

        def judged(k: int, weights: Floats) -> Floats:
            if several:
                return balanced_accuracy(truth[:, k], said[:, k] > trained[:, k].mean(), weights)
            return mean((best == k).astype(np.float64), weights * truth[:, k])

        return {
            "macro_auroc": over(lambda k, weights: auroc(truth[:, k], said[:, k], weights)),
            "macro_auprc": over(lambda k, weights: average_precision(truth[:, k], said[:, k], weights)),
            "balanced_accuracy": over(judged),
        }

    return Probing(truth_of, one_vs_rest if several else logistic, mean_area, strata_of_labels, measures)


def _numbers(data: Dataset, target: str, threshold: float | None) -> Probing:
    def truth_of(rows: Any, split: str) -> tuple[Floats, Bools]:
        truth = targets_of(data.split(split).records, rows, target)
        return truth, ~np.isnan(truth)

    def measures(truth: Floats, said: Floats, trained: Floats) -> Measures:
        return number_measures(truth, said, threshold=threshold)

    return Probing(truth_of, ridge, less_error, strata_of_numbers, measures)
