"""Zero-shot classification: each sample is assigned the class whose prompts are most similar."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import EmbeddedSplit, embed_split
from mmalign.errors import UserError
from mmalign.evaluation.metrics.classification import (
    Classified,
    class_columns,
    label_columns,
    multi_label_scores,
    single_label_scores,
)
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.selective_prediction import UncertaintyReport, assess, class_uncertainties, variance_of
from mmalign.evaluation.metrics.weighted import Ints, mean
from mmalign.evaluation.prompts.class_prompts import OTHER, Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.report.rows import item_columns
from mmalign.evaluation.settings import EvalSettings, PromptTask
from mmalign.model import Aligner
from mmalign.types import Embedding

OTHERS = ("error", "drop", "class")
PROTOCOL = {
    "top1, top5": "ties are resolved pessimistically; top5 is reported from six classes on",
    "balanced_accuracy": "recall of each class, averaged over classes",
    "macro_auroc": "one class against the rest, mean over classes; from softmax probabilities (one label per sample) "
    "or scores (several)",
    "ece": "expected calibration error, 15 bins of equal width, L1, of softmax(scale x score)",
    "map": "mean over classes with a positive of the average precision",
    "intervals": "95 % percentile bootstrap, whole records drawn",
}


@dataclass(frozen=True)
class ZeroShotClassification(PromptTask):
    """Zero-shot classification of one tower's samples by prompts that the other tower reads.

    The classes are the data's labels, or those of the prompts. Records with several labels make the task multi-label:
    the metrics are then map and macro_auroc, and a record without a label is a negative for every class. Otherwise,
    records without a label are excluded.

    Args:
        prompts: YAML file of prompts. Or the prompts of each class; default: the names of the classes.
        other: Records of classes that the prompts file does not name: error, drop (leave them out) or class (one more
            class, `other`, with the prompts of that name or else its name).
        uncertainty: Selective prediction: how well uncertainty estimates rank the errors. The estimates are the
            variance of the embedding, and entropy and margin of the class scores. Needs one label per record.
            Intervals resample whole groups.
        score: Another score of the pair's objective, such as mean or codes; "": as trained.
    """

    name: ClassVar[str] = "zero-shot"
    has_rows: ClassVar[bool] = True

    prompts: str | Path | Prompts | None = None
    other: str = "error"
    uncertainty: bool = False
    score: str = ""

    def __post_init__(self) -> None:
        if self.other not in OTHERS:
            raise UserError(f"--other: expected one of {', '.join(OTHERS)}, got {self.other!r}")

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Classify samples of the first tower by prompts of the second.

        Returns:
            `details`: `confusion` (true, predicted) counts, `classes`, `probabilities` `(n, classes)`, `truth`.

        Raises:
            UserError: no labels, fewer than two classes, or a label without a prompt.
        """
        tower, class_tower = towers
        prompts = Prompts.load(self.prompts) if isinstance(self.prompts, str | Path) else self.prompts or Prompts()
        records = data.split(settings.split).records
        # Classes of all splits: reading them decodes no sample.
        names = prompts.names([label for record in data.records for label in record.labels], self.other)
        if len(names) < 2:
            raise UserError(
                f"zero-shot needs at least two classes, got {len(names)}; "
                "name the label column with --data.columns.label"
            )
        embedded = embed_split(model, data, tower, settings.split, batch_size=settings.batch_size)
        texts = [prompts.texts(name) for name in names]
        sentences = PromptEmbeddings(
            model, class_tower, [text for several in texts for text in several], score=self.score
        )
        scores = sentences.class_scores(embedded.embedding, texts)
        columns = {name: column for column, name in enumerate(names)}
        rest = columns.get(OTHER) if self.other == "class" else None
        truth, dropped = torch.zeros(scores.shape, dtype=torch.bool), torch.zeros(len(scores), dtype=torch.bool)
        for item, row in enumerate(embedded.record_indices.tolist()):
            known = [columns.get(label, rest) for label in records[row].labels]
            truth[item, [column for column in known if column is not None]] = True
            dropped[item] = bool(known) and not truth[item].any()
        scale = model.logit_scale(tower, class_tower)
        several = bool((truth.sum(dim=1) > 1).any())
        labelled = (~dropped if several else truth.any(dim=1)).nonzero().squeeze(1)
        if not len(labelled) or not bool(truth.any()):
            raise UserError(
                f"no sample of split {settings.split!r} has a label; name the column with --data.columns.label"
            )
        classified = Classified(scores[labelled], truth[labelled], embedded.record_indices[labelled], names, scale)
        measure = multi_label_scores if several else single_label_scores
        figures, details, costly = measure(classified, resamples=settings.bootstrap, seed=settings.seed)
        figures |= {"n": len(labelled), "classes": len(names)}
        figures |= {"n_dropped": int(dropped.sum())} if self.other == "drop" else {}
        protocol = PROTOCOL | {
            "classes": _how(model, tower, class_tower),
            "score": self.score or "as trained",
            "scale": f"{scale:.6g}",
            "prompts": f"{len(prompts.templates)} templates",
            **({} if self.other == "error" else {"other": f"records of classes without prompts: {self.other}"}),
            "resamples": str(settings.bootstrap)
            if costly == settings.bootstrap
            else f"{settings.bootstrap}; {costly} for macro_auroc, ece and map, which are slow to compute",
        }
        origin = settings.provenance(model, data, protocol, prompts_hash=prompts.hash)
        if self.uncertainty:
            report = _uncertainty(
                embedded.embedding[labelled],
                classified,
                details,
                groups_of(records, embedded.record_indices[labelled]),
                settings.bootstrap,
                settings.seed,
            )
            figures, details = figures | report.tables, details | {"uncertainty": report}
            origin["protocol"] |= report.protocol
        items = EmbeddedSplit(embedded.embedding[labelled], embedded.record_indices[labelled])
        rows = item_columns(items, records)
        rows |= (
            label_columns(names, classified.truth.numpy(), classified.scores.numpy())
            if several
            else class_columns(classified, details)
        )
        rows |= variance_of(items.embedding)
        return EvalResult("zero-shot", figures, origin, details | {"classes": names, "truth": truth[labelled]}, rows)


def _uncertainty(
    samples: Embedding, classified: Classified, details: Mapping[str, Any], groups: Ints, resamples: int, seed: int
) -> UncertaintyReport:
    if "predicted" not in details:
        raise UserError("uncertainty of records with several labels: use --task multi-label")
    wrong = (details["predicted"] != classified.truth.long().argmax(dim=1)).double().numpy()
    definitions = variance_of(samples) | class_uncertainties((classified.scale * classified.scores.double()).numpy())
    return assess(
        definitions, wrong, groups, quality=lambda weights: 1 - mean(wrong, weights), resamples=resamples, seed=seed
    )


def _how(model: Aligner, a: str, b: str) -> str:
    if model.scores_vectors_only(a, b):
        return "a class is the mean direction of its prompts: normalise, mean, normalise"
    return "a class's score is the mean of its prompts' scores"
