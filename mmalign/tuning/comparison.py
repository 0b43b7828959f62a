"""Learnt prompts beside hand-written templates and a linear probe: top-1 accuracy on the same samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import pack
from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import with_intervals
from mmalign.evaluation.metrics.weighted import Bools, Floats, Ints
from mmalign.evaluation.probing.label_fractions import shots_of_classes
from mmalign.evaluation.probing.linear_models import logistic
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.model import Aligner
from mmalign.types import Embedding

HAND, LEARNT, PROBE = "hand-written templates", "learnt prompts", "linear probe"
STRENGTH = 1.0
PROTOCOL = {
    "shots": "training records per class, drawn at random among those with exactly one label",
    "all": "top-1 accuracy among all classes; prompts and probe are fitted to shots of all classes",
    "base, new": "prompts and probe are fitted to shots of the first half of the classes (base): top-1 accuracy of "
    "their samples among them, and of the other samples among the other classes (new)",
    "harmonic": "harmonic mean of base and new",
    "minus_templates": "minus the accuracy (all) of the hand-written templates on the same samples",
    PROBE: "vectors of the shared space, standardised on the shots; multinomial logistic regression, L2 penalty, "
    f"C = {STRENGTH:g}",
    "ties": "resolved pessimistically",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group by itself",
}


@dataclass(frozen=True)
class Labelled:
    """Vectors of samples with one label each.

    Args:
        vectors: Unit vectors in the shared space, `(n, dim)`, on the CPU.
        labels: Index of each sample's class, `(n,)`.
        record_indices: Index of its record in the split, `(n,)`.
    """

    vectors: Tensor
    labels: Tensor
    record_indices: Tensor

    def of(self, classes: range) -> "Labelled":
        """The samples of some classes, which are numbered from 0."""
        rows = (self.labels >= classes.start) & (self.labels < classes.stop)
        return Labelled(self.vectors[rows], self.labels[rows] - classes.start, self.record_indices[rows])


def labelled(
    model: Aligner, data: Dataset, tower: str, split: str, names: Sequence[str], *, shots: int = 0, seed: int = 0
) -> Labelled:
    """The vectors of the records of a split with exactly one label.

    Args:
        model: What embeds them.
        data: The data, with the split read.
        tower: The tower of the samples.
        split: The split.
        names: The classes.
        shots: Number of records of each class to draw; 0 = all records.
        seed: Seed of the draw.

    Raises:
        UserError: no record has a label, or, of shots, a class has no record.
    """
    part = data.split(split)
    rows = [n for n, record in enumerate(part.records) if len(record.labels) == 1 and tower in record.values]
    classes = np.array([names.index(part.records[row].labels[0]) for row in rows], dtype=np.int64)
    truth = classes[:, None] == np.arange(len(names))
    if absent := [name for name, there in zip(names, truth.any(axis=0), strict=True) if not there] if shots else []:
        raise UserError(f"tune: class {absent[0]!r} has no record with exactly one label in split {split!r}")
    chosen = np.array(rows, dtype=np.int64)[shots_of_classes(truth, shots, seed) if shots else slice(None)]
    few = part.take(chosen)
    batches = few.batches(tower, model.transforms[tower], batch_size=256)
    embedded = model.embed_batches(tower, batches, partial(pack, vectors_only=True))
    if embedded is None:
        raise UserError(f"tune: no record of split {split!r} has exactly one label; name it with --data.columns.label")
    of_record = torch.from_numpy(np.array([names.index(record.labels[0]) for record in few.records], dtype=np.int64))
    return Labelled(embedded[0].vector, of_record[embedded[1]], torch.from_numpy(chosen)[embedded[1]])


def correct_prompts(model: Aligner, towers: tuple[str, str], held: Labelled, texts: Sequence[Sequence[str]]) -> Bools:
    """Whether each sample's class has the highest score, `(n,)`, as in zero-shot classification."""
    sentences = PromptEmbeddings(model, towers[1], [text for several in texts for text in several])
    scores = sentences.class_scores(Embedding(held.vectors, tower=towers[0]), texts)
    return _first(scores.double().numpy(), held.labels.numpy())


def correct_probe(few: Labelled, held: Labelled, classes: int) -> Bools:
    """The same of a linear probe that is fitted to the shots."""
    truth = few.labels.numpy()[:, None] == np.arange(classes)
    probabilities = logistic(few.vectors.double().numpy(), truth, held.vectors.double().numpy(), STRENGTH)
    return _first(probabilities, held.labels.numpy())


def templates_of(prompts: Prompts, names: Sequence[str]) -> list[list[str]]:
    """The texts of each class with the hand-written templates."""
    return [prompts.texts(name) for name in names]


def bare_texts(prompts: Prompts, names: Sequence[str]) -> list[list[str]]:
    """The texts of each class without templates: the learnt context takes their place."""
    return templates_of(Prompts(("{}",), prompts.classes), names)


def accuracy_table(
    correct: Mapping[str, Mapping[str, Bools]], labels: Ints, base: int, groups: Ints, *, resamples: int, seed: int
) -> Mapping[str, Any]:
    """Rows of accuracies with intervals.

    Args:
        correct: Method -> `all`, `base` and `new` -> whether each sample of these classes is correct.
        labels: Class of each sample, `(n,)`.
        base: Number of base classes, the first ones.
        groups: Resampling unit of each sample, `(n,)`.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.
    """
    members = {"all": labels >= 0, "base": labels < base, "new": labels >= base}

    def accuracy(method: str, part: str, weights: Floats) -> Floats:
        drawn = weights[:, members[part]]
        with np.errstate(invalid="ignore"):
            return np.asarray((drawn * correct[method][part]).sum(axis=1) / drawn.sum(axis=1))

    names: list[str] = []
    for method, parts in correct.items():
        names += [f"{method}/{part}" for part in parts]
        names += [f"{method}/harmonic"] if {"base", "new"} <= set(parts) else []
        names += [f"{method}/minus_templates"] if method != HAND else []

    def figure(method: str, name: str, weights: Floats) -> Floats:
        if name == "minus_templates":
            return accuracy(method, "all", weights) - accuracy(HAND, "all", weights)
        if name != "harmonic":
            return accuracy(method, name, weights)
        base, new = accuracy(method, "base", weights), accuracy(method, "new", weights)
        return np.asarray(2 * base * new / np.maximum(base + new, 1e-12))

    def statistic(weights: Floats) -> Floats:
        parts = [name.split("/") for name in names]
        return np.stack([figure(method, part, weights) for method, part in parts], axis=1)

    return with_intervals(statistic, names, groups, resamples=resamples, seed=seed)


def _first(scores: Floats, labels: Ints) -> Bools:
    own = scores[np.arange(len(labels)), labels]
    return np.asarray((scores >= own[:, None]).sum(axis=1) == 1)
