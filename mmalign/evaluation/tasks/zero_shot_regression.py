"""Zero-shot regression: a number predicted from the scores of prompts that contain a value."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import AVERAGE, EmbeddedSplit, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import groups_of, targets_of, tuning_split
from mmalign.evaluation.metrics.regression import Predicted, number_figures, number_uncertainty, predict
from mmalign.evaluation.metrics.selective_prediction import variance_of
from mmalign.evaluation.metrics.weighted import best_threshold
from mmalign.evaluation.prompts.contrast_prompts import ValuePrompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.report.rows import item_columns
from mmalign.evaluation.settings import EvalSettings, PromptTask
from mmalign.model import Aligner
from mmalign.types import Embedding

PROTOCOL = {
    "mae, rmse": "in the target's unit",
    "r2": "1 - squared error / squared distance from the mean of the evaluated records",
    "threshold": "applied to the prediction; `tuned`: with the threshold on predictions that is best on another split; "
    "auroc needs no threshold",
    "training mean": "the metrics of predicting the mean of the training records",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group as its own group",
}


@dataclass(frozen=True)
class ZeroShotRegression(PromptTask):
    """Zero-shot regression: a number is predicted from prompts that contain a value.

    Args:
        target: Number to predict, one of the records' `targets`.
        prompts: YAML file of prompts. Or their values and templates.
        prediction: `mean` over all values, or `median` of the values of the best prompts.
        temperature: Temperature of the softmax over values; default: 1 / the objective's learnt scale.
        top: Fraction of the prompts, the highest-scoring ones, over whose values the median is taken.
        prompt_fraction: Fraction of the prompts to keep, those with the lowest uncertainty; 1: all. Templates are
            selected, by their mean over all values.
        threshold: Also classify the prediction as below this number or not.
        tune_split: Split on which thresholds are chosen; "": validation, or train; none: no thresholds.
        uncertainty: Selective prediction: how well uncertainty estimates rank the errors. The estimates are variance,
            spread of the values, entropy, and the variance of the scores over templates.
        average: Towers in which a record's alternatives become one item, the mean of their vectors.
        score: Another score of the pair's objective, such as mean or codes; "": as trained.
    """

    name: ClassVar[str] = "regression"
    has_rows: ClassVar[bool] = True

    target: str = ""
    prompts: str | Path | ValuePrompts | None = None
    prediction: str = "mean"
    temperature: float | None = None
    top: float = 0.2
    prompt_fraction: float = 1.0
    threshold: float | None = None
    tune_split: str = ""
    uncertainty: bool = False
    average: Sequence[str] = ()
    score: str = ""

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Predict a number for each sample, and compute its errors.

        Returns:
            `rows`: the model's metrics, and those of predicting the mean of the training records. `details`: `truth`,
            `predicted`, `groups`, and uncertainty estimates.

        Raises:
            UserError: no target or no prompts, no record with the number, or an option out of its range.
        """
        tower, class_tower = towers
        prompts = ValuePrompts.load(self.prompts) if isinstance(self.prompts, str | Path) else self.prompts
        if prompts is None or not self.target:
            raise UserError("regression needs --target NAME, and --prompts FILE with values and templates")
        sentences = PromptEmbeddings(model, class_tower, prompts.sentences(), score=self.score)
        if self.prompt_fraction != 1:
            prompts = prompts.least_uncertain(sentences, self.prompt_fraction)
        embedded = embed_split(model, data, tower, settings.split, batch_size=settings.batch_size, average=self.average)
        records = data.split(settings.split).records
        every = targets_of(records, embedded.record_indices, self.target)
        known = ~np.isnan(every)
        scale = model.logit_scale(tower, class_tower)
        temperature = 1 / scale if self.temperature is None else self.temperature

        def predicted(samples: Embedding) -> Predicted:
            scores = sentences.scores(samples, prompts.sentences()).double().numpy()
            table = scores.reshape(len(scores), len(prompts.values), len(prompts.templates))
            return predict(table, prompts.values, prediction=self.prediction, temperature=temperature, top=self.top)

        samples = embedded.embedding[torch.from_numpy(known)]
        truth, groups, said = every[known], groups_of(records, embedded.record_indices)[known], predicted(samples)
        if not len(truth):
            raise UserError(f"no record of split {settings.split!r} has the number {self.target!r}")
        tuned = tuning_split(data, settings.split, self.tune_split) if self.threshold is not None else None
        cut = None
        if tuned is not None and self.threshold is not None:
            data = data.read(tuned)
            other = embed_split(model, data, tower, tuned, batch_size=settings.batch_size, average=self.average)
            held = targets_of(data.split(tuned).records, other.record_indices, self.target)
            there = ~np.isnan(held)
            above = held[there] >= self.threshold
            if above.any() and not above.all():
                cut = best_threshold(above, predicted(other.embedding[torch.from_numpy(there)]).values)
        rows = {"model": (said.values, cut)}
        centre = _training_mean(data, self.target)
        if centre is not None:
            rows["training mean"] = (np.full(len(truth), centre), None)
        tables = {
            name: number_figures(
                truth,
                values,
                groups,
                threshold=self.threshold,
                cut=cut,
                resamples=settings.bootstrap,
                seed=settings.seed,
            )
            for name, (values, cut) in rows.items()
        }
        figures = tables["model"] | {"n": len(truth), "groups": len(np.unique(groups)), "rows": tables}
        if self.threshold is not None:
            figures |= {"threshold": self.threshold, "fraction_below": float((truth < self.threshold).mean())}
            figures |= {} if cut is None else {"cut": cut}
        protocol = PROTOCOL | {
            "prediction": f"mean of the values by softmax(score / {temperature:.6g}), scores averaged over templates"
            if self.prediction == "mean"
            else f"median of the values of the {self.top:g} of all prompts that score highest",
            "values": f"{len(prompts.values)} from {prompts.values[0]:g} to {prompts.values[-1]:g}",
            "templates": f"{len(prompts.templates)}",
            "score": self.score or "as trained",
            "target": self.target,
            "cut": f"chosen on {tuned}" if cut is not None else "none chosen",
        }
        protocol |= {"average": AVERAGE.format(", ".join(self.average))} if self.average else {}
        origin = settings.provenance(model, data, protocol, prompts_hash=prompts.hash)
        details = {"truth": truth, "predicted": said, "groups": groups, "threshold": self.threshold, "cut": cut}
        if self.uncertainty:
            report = number_uncertainty(
                truth,
                said,
                variance_of(samples),
                groups,
                threshold=self.threshold,
                cut=cut,
                resamples=settings.bootstrap,
                seed=settings.seed,
            )
            figures, details = figures | report.tables, details | {"uncertainty": report}
            origin["protocol"] |= report.protocol
        with_target = EmbeddedSplit(samples, embedded.record_indices[torch.from_numpy(known)])
        columns = item_columns(with_target, records) | {
            "truth": truth,
            "prediction": said.values,
            "error": said.values - truth,
        }
        columns |= said.uncertainties() | variance_of(samples)
        return EvalResult(
            "regression", figures, origin, details | {"target": self.target, "embedding": samples}, columns
        )


def _training_mean(data: Dataset, target: str) -> float | None:
    # From the list of records: no sample is decoded for a mean.
    rows = [row for row, split in zip(data.records, data.splits, strict=True) if split == "train"]
    values = [row.targets[target] for row in rows if target in row.targets]
    return float(np.mean(values)) if values else None
