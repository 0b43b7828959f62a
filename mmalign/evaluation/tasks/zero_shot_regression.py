"""Zero-shot regression: sentences that name a value, and the value that a sample is most like."""

from collections.abc import Sequence

import numpy as np
import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import AVERAGE, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import groups_of, targets_of, tuning_split
from mmalign.evaluation.metrics.regression import Predicted, number_figures, number_uncertainty, predict
from mmalign.evaluation.metrics.selective_prediction import variance_of
from mmalign.evaluation.metrics.weighted import best_threshold
from mmalign.evaluation.prompts.contrast_prompts import ValuePrompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.report.result import EvalResult, provenance
from mmalign.model import Aligner
from mmalign.types import Embedding

PROTOCOL = {
    "mae, rmse": "in the target's unit",
    "r2": "1 - squared error / squared distance from the mean of what is measured",
    "threshold": "a prediction counts as below or above by itself; `tuned`: by the cut on predictions that is best on "
    "another split; auroc needs no cut",
    "training mean": "what predicting the mean of the training rows would give",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group by itself",
}


def evaluate_regression(
    model: Aligner,
    data: Dataset,
    *,
    side: str,
    class_side: str,
    split: str,
    target: str = "",
    prompts: ValuePrompts | None = None,
    prediction: str = "mean",
    temperature: float | None = None,
    top: float = 0.2,
    prompt_fraction: float = 1.0,
    threshold: float | None = None,
    tune_split: str = "",
    uncertainty: bool = False,
    average: Sequence[str] = (),
    batch_size: int = 64,
    bootstrap: int = 1000,
    seed: int = 0,
    score: str = "",
) -> EvalResult:
    """Predict a number by sentences that name one, and measure how far off it is.

    Args:
        model: What to measure.
        data: The data set, prepared.
        side: The tower whose samples are judged.
        class_side: The tower that reads sentences.
        split: Whose records are judged; those whose number is not known are left out.
        target: Which of the records' `targets` is predicted.
        prompts: Values and templates.
        prediction: mean or median, see `predict`.
        temperature: Of the softmax over values; default: 1 / the objective's learnt scale.
        top: Share of the prompts that a median is taken of.
        prompt_fraction: Share of the templates to keep, those with the lowest variance over all values; 1 = all.
        threshold: Also judge on which side of it the prediction falls.
        tune_split: Where the cut on predictions is chosen; "" = validation, or else train; none = no such cut.
        uncertainty: Also ask whether the model knows when it is wrong: variance, spread of the values, entropy, and the
            variance of the scores over templates.
        average: Sides of which a record's alternatives become one item: the clips of one study.
        batch_size: Items a forward pass.
        bootstrap: Resamples behind each interval; 0 = none.
        seed: Seed of the resampling.
        score: Another score that the pair's objective offers.

    Returns:
        `rows`: the model's figures, and those of predicting the mean of the training rows. `details`: `truth`,
        `predicted`, `groups`, and what the prediction came with.

    Raises:
        UserError: no target or no prompts, no record with the number, or an option out of its range.
    """
    if prompts is None or not target:
        raise UserError("regression needs --target NAME, and --prompts FILE with values and templates")
    sentences = PromptEmbeddings(model, class_side, prompts.sentences(), score=score)
    if prompt_fraction != 1:
        prompts = prompts.least_uncertain(sentences, prompt_fraction)
    embedded = embed_split(model, data, side, split, batch_size=batch_size, average=average)
    every = targets_of(data.records(split), embedded.record_indices, target)
    known = ~np.isnan(every)
    scale = model.logit_scale(side, class_side)
    temperature = 1 / scale if temperature is None else temperature

    def predicted(samples: Embedding) -> Predicted:
        scores = sentences.scores(samples, prompts.sentences()).double().numpy()
        table = scores.reshape(len(scores), len(prompts.values), len(prompts.templates))
        return predict(table, prompts.values, prediction=prediction, temperature=temperature, top=top)

    samples = embedded.embedding[torch.from_numpy(known)]
    truth, groups, said = (
        every[known],
        groups_of(data.records(split), embedded.record_indices)[known],
        predicted(samples),
    )
    if not len(truth):
        raise UserError(f"no record of split {split!r} has the number {target!r}")
    tuned = tuning_split(data, split, tune_split) if threshold is not None else None
    cut = None
    if tuned is not None and threshold is not None:
        other = embed_split(model, data, side, tuned, batch_size=batch_size, average=average)
        held = targets_of(data.records(tuned), other.record_indices, target)
        there = ~np.isnan(held)
        above = held[there] >= threshold
        if above.any() and not above.all():
            cut = best_threshold(above, predicted(other.embedding[torch.from_numpy(there)]).values)
    rows = {"model": (said.values, cut)}
    centre = _training_mean(data, target)
    if centre is not None:
        rows["training mean"] = (np.full(len(truth), centre), None)
    tables = {
        name: number_figures(truth, values, groups, threshold=threshold, cut=cut, resamples=bootstrap, seed=seed)
        for name, (values, cut) in rows.items()
    }
    found = tables["model"] | {"n": len(truth), "groups": len(np.unique(groups)), "rows": tables}
    if threshold is not None:
        found |= {"threshold": threshold, "fraction_below": float((truth < threshold).mean())}
        found |= {} if cut is None else {"cut": cut}
    protocol = PROTOCOL | {
        "prediction": f"mean of the values by softmax(score / {temperature:.6g}), scores averaged over templates"
        if prediction == "mean"
        else f"median of the values of the {top:g} of all prompts that score highest",
        "values": f"{len(prompts.values)} from {prompts.values[0]:g} to {prompts.values[-1]:g}",
        "templates": f"{len(prompts.templates)}",
        "score": score or "as trained",
        "target": target,
        "cut": f"chosen on {tuned}" if cut is not None else "none chosen",
    }
    protocol |= {"average": AVERAGE.format(", ".join(average))} if average else {}
    origin = provenance(
        model, data, split=split, seed=seed, protocol=protocol, resamples=bootstrap, prompts_hash=prompts.hash
    )
    details = {"truth": truth, "predicted": said, "groups": groups, "threshold": threshold, "cut": cut}
    if uncertainty:
        report = number_uncertainty(
            truth, said, variance_of(samples), groups, threshold=threshold, cut=cut, resamples=bootstrap, seed=seed
        )
        found, details = found | report.tables, details | {"uncertainty": report}
        origin["protocol"] |= report.protocol
    return EvalResult("regression", found, origin, details | {"target": target, "embedding": samples})


def _training_mean(data: Dataset, target: str) -> float | None:
    # From the list of rows: nothing is decoded for a mean.
    if isinstance(data, Dataset):
        rows = [row for row, split in zip(data.all_records, data.splits, strict=True) if split == "train"]
    else:
        rows = data.records("train")
    values = [row.targets[target] for row in rows if target in row.targets]
    return float(np.mean(values)) if values else None
