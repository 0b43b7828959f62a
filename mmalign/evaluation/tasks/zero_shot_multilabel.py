"""Zero-shot multi-label classification: each class by its positive and negative prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import AVERAGE, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.metrics.classification import label_columns
from mmalign.evaluation.metrics.labels import (
    groups_of,
    labels_of,
    labels_without_prompts,
    tuning_split,
    with_intervals,
)
from mmalign.evaluation.metrics.selective_prediction import (
    UncertaintyReport,
    assess,
    detection_uncertainties,
    variance_of,
)
from mmalign.evaluation.metrics.weighted import (
    Bools,
    Floats,
    auroc,
    average_precision,
    balanced_accuracy,
    best_threshold,
    over_classes,
    with_both,
)
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.report.rows import item_columns
from mmalign.evaluation.settings import EvalSettings, PromptTask
from mmalign.model import Aligner
from mmalign.types import Embedding

FIGURES = ("auroc", "auprc", "balanced_accuracy")
PROTOCOL = {
    "auroc, auprc": "one class against all other records, ties counting half; auprc is the average precision",
    "balanced_accuracy": "mean of sensitivity and specificity; a class with negative prompts is predicted where they "
    "score lower, others where the score is above a threshold chosen on another split",
    "macro": "mean over classes that have both outcomes",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group as its own group",
}


@dataclass(frozen=True)
class ZeroShotMultiLabel(PromptTask):
    """Zero-shot classification of each class independently, for records with any number of labels.

    The score of a class is that of its positive prompts minus that of its negative ones, where it has any.

    Args:
        prompts: YAML file of prompts. Or positive and negative prompts of each class; default: the labels.
        prompt_fraction: Fraction of the prompts to keep, those with the lowest uncertainty; 1: all.
        tune_split: Split on which thresholds are chosen; "": validation, or train; none: no thresholds.
        uncertainty: Selective prediction: how well uncertainty estimates rank the errors. The estimates are the
            variance of the embedding, entropy and margin of the class scores, and the variance of the scores over the
            prompts of a class.
        average: Towers in which a record's alternatives become one item, the mean of their vectors.
        score: Another score of the pair's objective, such as mean or codes; "": as trained.
    """

    name: ClassVar[str] = "multi-label"
    has_rows: ClassVar[bool] = True

    prompts: str | Path | ClassPrompts | None = None
    prompt_fraction: float = 1.0
    tune_split: str = ""
    uncertainty: bool = False
    average: Sequence[str] = ()
    score: str = ""

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Classify samples of the first tower by prompts of the second, each class independently.

        Returns:
            Macro metrics; `classes`, a table by class; `labels_without_prompts`, the number of records of each label
            that no prompt names. `details`: `margins` `(n, classes)`, score minus threshold;
            `truth`, `groups`, `classes`.

        Raises:
            UserError: no class has both outcomes in the split.
        """
        tower, class_tower = towers
        records = data.split(settings.split).records
        prompts = ClassPrompts.load(self.prompts) if isinstance(self.prompts, str | Path) else self.prompts
        prompts = prompts or _labels_as_they_are(data)
        sentences = PromptEmbeddings(model, class_tower, prompts.sentences(), score=self.score)
        if self.prompt_fraction != 1:
            prompts = prompts.least_uncertain(sentences, self.prompt_fraction)
        names = prompts.names
        embedded = embed_split(model, data, tower, settings.split, batch_size=settings.batch_size, average=self.average)
        truth, groups = labels_of(records, embedded.record_indices, names), groups_of(records, embedded.record_indices)
        both = with_both(truth)
        if not both.any():
            raise UserError(
                f"no class of {', '.join(names)} has records of split {settings.split!r} with and without this label; "
                "name the column of labels with --data.columns.label"
            )
        scores = detection_scores(sentences, embedded.embedding, prompts)
        thresholds = np.array([0.0 if name in prompts.negative else np.nan for name in names])
        tuned = tuning_split(data, settings.split, self.tune_split) if np.isnan(thresholds[both]).any() else None
        if tuned:
            data = data.read(tuned)
            other = embed_split(model, data, tower, tuned, batch_size=settings.batch_size, average=self.average)
            held = labels_of(data.split(tuned).records, other.record_indices, names)
            known = detection_scores(sentences, other.embedding, prompts)
            for k in np.flatnonzero(np.isnan(thresholds) & with_both(held)):
                thresholds[k] = best_threshold(held[:, k], known[:, k])
        tables = class_figures(
            truth, scores, thresholds, names, groups, resamples=settings.bootstrap, seed=settings.seed
        )
        macro = tables.pop("")
        for name, threshold, column in zip(names, thresholds.tolist(), truth.T, strict=True):
            row = tables.setdefault(name, {})
            row |= {"threshold": threshold, "prevalence": float(column.mean()), "positives": int(column.sum())}
        left_out = [name for name, has_both in zip(names, both.tolist(), strict=True) if not has_both]
        figures = macro | {"n": len(truth), "groups": len(np.unique(groups)), "classes": tables, "left_out": left_out}
        figures["labels_without_prompts"] = labels_without_prompts(records, names)
        protocol = PROTOCOL | {
            "sentences": "mean direction" if model.scores_vectors_only(tower, class_tower) else "mean score",
            "score": self.score or "as trained",
            "thresholds": f"chosen on {tuned}" if tuned else "none chosen",
            "prompt_fraction": f"{self.prompt_fraction:g}",
            "left out": ", ".join(left_out) or "no class",
        }
        protocol |= {"average": AVERAGE.format(", ".join(self.average))} if self.average else {}
        origin = settings.provenance(model, data, protocol, prompts_hash=prompts.hash)
        details = {
            "margins": (scores - thresholds)[:, both],
            "truth": truth[:, both],
            "classes": [name for name in names if name not in left_out],
            "groups": groups,
            "embedding": embedded.embedding,
        }
        if self.uncertainty:
            scale = model.logit_scale(tower, class_tower)
            definitions = variance_of(embedded.embedding) | _score_variance(sentences, embedded.embedding, prompts)
            report = detection_uncertainty(
                details["truth"],
                details["margins"],
                groups,
                definitions,
                scale=scale,
                resamples=settings.bootstrap,
                seed=settings.seed,
            )
            figures, details = figures | report.tables, details | {"uncertainty": report}
            origin["protocol"] |= report.protocol
        rows = item_columns(embedded, records) | variance_of(embedded.embedding)
        rows |= label_columns(names, truth, scores, thresholds)
        return EvalResult("multi-label", figures, origin, details, rows)


def detection_scores(sentences: PromptEmbeddings, samples: Embedding, prompts: ClassPrompts) -> Floats:
    """Score of every sample with every class, `(samples, classes)`: positive prompts minus negative ones.

    Raises:
        UserError: a score is NaN or infinite.
    """
    names = prompts.names
    scores = sentences.class_scores(samples, list(prompts.positive.values())).double()
    if negative := [name for name in names if name in prompts.negative]:
        indices = [names.index(name) for name in negative]
        scores[:, indices] -= sentences.class_scores(samples, [prompts.negative[name] for name in negative])
    return scores.numpy()


def class_figures(
    truth: Bools,
    scores: Floats,
    thresholds: Floats,
    names: Sequence[str],
    groups: Any,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """auroc, auprc and balanced_accuracy of each class that has both outcomes, and their means over classes.

    Args:
        truth: `(n, classes)`.
        scores: `(n, classes)`, higher = more positive.
        thresholds: `(classes,)`, NaN = none; `score > threshold` = positive.
        names: Class names.
        groups: Resampling unit of each row, `(n,)`.
        resamples: 0 = no intervals.
        seed: Seed of the draws.

    Returns:
        The means as `""`: macro_auroc and so on; a table by class. Metrics undefined for all classes are left out.
    """
    measured = np.flatnonzero(with_both(truth)).tolist()

    def statistic(weights: Floats) -> Floats:
        columns = np.full((len(weights), len(measured), len(FIGURES)), np.nan)
        for column, k in enumerate(measured):
            right, score = truth[:, k], scores[:, k]
            columns[:, column, 0] = auroc(right, score, weights)
            columns[:, column, 1] = average_precision(right, score, weights)
            if not np.isnan(thresholds[k]):
                columns[:, column, 2] = balanced_accuracy(right, score > thresholds[k], weights)
        macro = over_classes(columns.swapaxes(1, 2))
        return np.concatenate([macro, columns.reshape(len(weights), -1)], axis=1)

    titles = [f"macro_{figure}" for figure in FIGURES] + [
        f"{names[k]}/{figure}" for k in measured for figure in FIGURES
    ]
    tables = with_intervals(statistic, titles, groups, resamples=resamples, seed=seed)
    return {row: _defined(figures) for row, figures in tables.items()}


def _defined(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if not (isinstance(value, float) and np.isnan(value))}


def detection_uncertainty(
    truth: Bools,
    margins: Floats,
    groups: Any,
    definitions: Mapping[str, Floats],
    *,
    scale: float = 1.0,
    resamples: int = 1000,
    seed: int = 0,
) -> UncertaintyReport:
    """Selective prediction by the fraction of wrong classes; the halves are compared by macro balanced accuracy.

    Args:
        truth: `(n, classes)`.
        margins: Score minus threshold, `(n, classes)`; classes without a threshold (NaN) are left out.
        groups: Resampling unit of each row, `(n,)`.
        definitions: Further uncertainty estimates besides entropy and margin, `(n,)` each.
        scale: Factor from margins to logits.
        resamples: 0 = no intervals.
        seed: Seed of the draws.

    Raises:
        UserError: no class has a threshold.
    """
    defined = ~np.isnan(margins).any(axis=0)
    if not defined.any():
        raise UserError("uncertainty needs predictions of each class: add negative prompts, or set --tune_split")
    truth, margins = truth[:, defined], margins[:, defined]
    said = margins > 0

    def quality(weights: Floats) -> Floats:
        columns = [balanced_accuracy(right, called, weights) for right, called in zip(truth.T, said.T, strict=True)]
        return over_classes(np.stack(columns, axis=1))

    return assess(
        {**definitions, **detection_uncertainties(scale * margins)},
        np.asarray((truth != said).mean(axis=1)),
        groups,
        quality=quality,
        wanted="balanced_accuracy",
        wrong=np.asarray((truth != said).any(axis=1)),
        resamples=resamples,
        seed=seed,
    )


def _score_variance(sentences: PromptEmbeddings, samples: Embedding, prompts: ClassPrompts) -> dict[str, Floats]:
    several = [texts for texts in prompts.positive.values() if len(texts) > 1]
    if not several:
        return {}
    scores = [sentences.scores(samples, texts).double().numpy() for texts in several]
    return {"score variance": np.mean([one.var(axis=1) for one in scores], axis=0)}


def _labels_as_they_are(data: Dataset) -> ClassPrompts:
    labels = sorted({label for record in data.records for label in record.labels})
    if not labels:
        raise UserError("multi-label needs labels; name the column with --data.columns.label")
    return ClassPrompts({label: (label,) for label in labels})
