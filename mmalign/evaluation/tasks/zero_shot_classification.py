"""Zero-shot classification: classes as sentences, the class whose sentence is nearest wins."""

from collections.abc import Mapping
from typing import Any

import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import embed_split
from mmalign.errors import UserError
from mmalign.evaluation.metrics.classification import Classified, multi_label_scores, single_label_scores
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.selective_prediction import UncertaintyReport, assess, class_uncertainties, variance_of
from mmalign.evaluation.metrics.weighted import Ints, mean
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.report.result import EvalResult, provenance
from mmalign.model import Aligner
from mmalign.types import Embedding

PROTOCOL = {
    "top1, top5": "ties count against the model; top5 is given from six classes on",
    "balanced_accuracy": "recall of each class, averaged over classes",
    "macro_auroc": "one class against the rest, mean over classes; from softmax probabilities (one label a sample) "
    "or scores (several)",
    "ece": "expected calibration error, 15 bins of equal width, L1, of softmax(scale x score)",
    "map": "mean over classes with a positive of the average precision",
    "intervals": "95 % percentile bootstrap, whole records drawn",
}


def evaluate_zero_shot(
    model: Aligner,
    data: Dataset,
    *,
    side: str,
    class_side: str | None = None,
    split: str,
    prompts: Prompts | None = None,
    uncertainty: bool = False,
    batch_size: int = 64,
    bootstrap: int = 1000,
    seed: int = 0,
    score: str = "",
) -> EvalResult:
    """Classify one side by sentences through another; the classes are the data's labels, or those of the prompts.

    Samples with several labels make the task multi-label: scores are then map and macro_auroc, and a sample without
    label is a negative for every class. With one label a sample, those without are left out.

    Args:
        model: What to measure.
        data: The data set, prepared.
        side: The tower whose samples are classified.
        class_side: The tower that reads prompts; default: the one other tower whose samples are strings.
        split: Whose records are classified.
        prompts: What stands for a class; default: its name.
        uncertainty: Also ask whether the model knows when it is wrong, with one label a sample: variance of the
            embedding, entropy and margin of the class scores. Intervals draw whole groups.
        batch_size: Items a forward pass.
        bootstrap: Resamples behind each interval; 0 = none.
        seed: Seed of the resampling.
        score: Another score that the pair's objective offers.

    Returns:
        `details`: `confusion` (true, predicted) counts, `classes`, `probabilities` `(n, classes)`, `truth`.

    Raises:
        UserError: no labels, fewer than two classes, a label without prompt, or no tower that reads strings.
    """
    prompts, class_side = prompts or Prompts(), class_side or _reader(model, side)
    records = data.records(split)
    # The classes are those of the whole data, whatever the split; nothing is decoded to learn them.
    names = prompts.names([label for record in data.all_records for label in record.labels])
    if len(names) < 2:
        raise UserError(
            f"zero-shot needs at least two classes, got {len(names)}; name the label column with --data.columns.label"
        )
    embedded = embed_split(model, data, side, split, batch_size=batch_size)
    texts = [prompts.texts(name) for name in names]
    sentences = PromptEmbeddings(model, class_side, [text for several in texts for text in several], score=score)
    scores = sentences.class_scores(embedded.embedding, texts)
    place = {name: column for column, name in enumerate(names)}
    truth = torch.zeros(scores.shape, dtype=torch.bool)
    for item, row in enumerate(embedded.record_indices.tolist()):
        for label in records[row].labels:
            truth[item, place[label]] = True
    scale = model.logit_scale(side, class_side)
    several = bool((truth.sum(dim=1) > 1).any())
    kept = torch.arange(len(truth)) if several else truth.any(dim=1).nonzero().squeeze(1)
    if not len(kept) or not bool(truth.any()):
        raise UserError(f"no sample of split {split!r} has a label; name the column with --data.columns.label")
    classified = Classified(scores[kept], truth[kept], embedded.record_indices[kept], names, scale)
    measure = multi_label_scores if several else single_label_scores
    found, details, costly = measure(classified, resamples=bootstrap, seed=seed)
    found |= {"n": len(kept), "classes": len(names)}
    protocol = PROTOCOL | {
        "classes": _how(model, side, class_side),
        "score": score or "as trained",
        "scale": f"{scale:.6g}",
        "prompts": f"{len(prompts.templates)} templates",
        "resamples": f"{costly} for macro_auroc, ece and map, {bootstrap} for the others",
    }
    origin = provenance(
        model, data, split=split, seed=seed, protocol=protocol, resamples=bootstrap, prompts_hash=prompts.hash
    )
    if uncertainty:
        report = _uncertainty(
            embedded.embedding[kept],
            classified,
            details,
            groups_of(records, embedded.record_indices[kept]),
            bootstrap,
            seed,
        )
        found, details = found | report.tables, details | {"uncertainty": report}
        origin["protocol"] |= report.protocol
    return EvalResult("zero-shot", found, origin, details | {"classes": names, "truth": truth[kept]})


def _uncertainty(
    samples: Embedding, given: Classified, details: Mapping[str, Any], groups: Ints, resamples: int, seed: int
) -> UncertaintyReport:
    if "predicted" not in details:
        raise UserError("uncertainty of records with several labels: use --task multi-label")
    wrong = (details["predicted"] != given.truth.long().argmax(dim=1)).double().numpy()
    definitions = variance_of(samples) | class_uncertainties((given.scale * given.scores.double()).numpy())
    return assess(
        definitions, wrong, groups, quality=lambda weights: 1 - mean(wrong, weights), resamples=resamples, seed=seed
    )


def _how(model: Aligner, a: str, b: str) -> str:
    if model.scores_vectors_only(a, b):
        return "a class is the mean direction of its prompts: normalise, mean, normalise"
    return "a class's score is the mean of its prompts' scores"


def _reader(model: Aligner, side: str) -> str:
    readers = [name for name, modality in model.modalities.items() if modality.value_is_sample and name != side]
    if len(readers) != 1:
        raise UserError(
            f"zero-shot of {side!r} needs one tower that reads strings, to embed class names; "
            f"this model has {', '.join(readers) or 'none'}; name it by class_side"
        )
    return readers[0]
