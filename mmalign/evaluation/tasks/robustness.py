"""Robustness: retrieval and zero-shot classification of one tower under perturbations of increasing level."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.jagged import pack
from mmalign.embedding.loop import EmbeddedSplit, embed_split
from mmalign.embedding.scoring import full_blocks
from mmalign.errors import UserError
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics.classification import decide
from mmalign.evaluation.metrics.labels import groups_of
from mmalign.evaluation.metrics.weighted import Floats, Ints
from mmalign.evaluation.perturbed_split import perturbed_batches, perturbing
from mmalign.evaluation.probing.features import sample_tower
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.prompt_embeddings import PromptEmbeddings
from mmalign.evaluation.ranking.ranks import rank_blocks
from mmalign.evaluation.ranking.relevance import RELEVANCE, RelevanceMatrix
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.model import Aligner
from mmalign.registry import nearest

Measure = Callable[[EmbeddedSplit], Floats]
"""Embedded samples -> what each is worth, `(n,)` in [0, 1]; NaN = not measured."""

UNPERTURBED = "unperturbed"
PROTOCOL = {
    "hit@1": "fraction of the perturbed samples whose first gallery item is relevant; the gallery, of the other tower, "
    "is not perturbed; ties are resolved pessimistically",
    "top1": "fraction of the samples with exactly one label whose class is ranked first; ties are resolved "
    "pessimistically",
    "difference": "perturbed less unperturbed, of the same samples; means: over the levels of a perturbation, and over "
    "all perturbations",
    "perturbations": "random numbers depend on the seed, the record and the perturbation, not on the level",
    "intervals": "95 % percentile bootstrap, whole groups (patients) drawn, a record without group by itself",
}


@dataclass(frozen=True)
class Robustness(Task):
    """Robustness of one tower: retrieval and zero-shot classification of perturbed samples.

    Retrieval is measured where the data have the other tower, zero-shot classification where the data have labels and
    the other tower reads strings.

    Args:
        tower: Tower whose samples are perturbed; default: the first whose samples are files or arrays.
        perturbations: Perturbations of the tower's modality; default: all.
        relevance: Relevant gallery items: `record` (of the query's record), `content` (also of equal content) or
            `group` (of the query's group).
        prompts: YAML file of prompts. Or the prompts of each class; default: the names of the classes.
        score: Another score of the pair's objective, such as mean or codes; "": as trained.
    """

    name: ClassVar[str] = "robustness"
    reads_samples: ClassVar[bool] = True

    tower: str = ""
    perturbations: Sequence[str] = ()
    relevance: str = "record"
    prompts: str | Path | Prompts | None = None
    score: str = ""

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The perturbed tower, and the other one of the pair."""
        chosen = self.tower or sample_tower(model, pair)
        if chosen not in pair:
            raise UserError(f"--tower: expected a tower of the pair {' '.join(pair)}, got {chosen!r}")
        return (chosen, pair[1] if chosen == pair[0] else pair[0])

    def towers_read(self, towers: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
        """The perturbed tower, and the other one where the data have it."""
        return towers if towers[1] in known else towers[:1]

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Embed the unperturbed and the perturbed samples, and measure each.

        Returns:
            `levels`, a table with the row `unperturbed` and one row per perturbation and level; `means`, one row per
            perturbation, and `all`. Columns: `hit@1` and `top1`, where measured, and their `_difference`. `details`:
            `curves`, measure -> perturbation -> values from unperturbed to the last level; `values`, measure -> row ->
            what each sample is worth `(n,)`.

        Raises:
            UserError: the tower's modality has no perturbations, or not these, or nothing can be measured.
        """
        tower, other = towers
        ladder = self._ladder(perturbing(model, tower).perturbations)
        clean = embed_split(model, data, tower, settings.split, batch_size=settings.batch_size, packed=True)
        measures = self._measures(model, data, clean, other, settings)
        values = {title: {UNPERTURBED: of(clean)} for title, of in measures.items()}
        for name, levels in ladder.items():
            for level in levels:  # one embedding at a time: those of token objectives are large
                embedded = self._perturbed(model, data, tower, name, level, settings)
                for title, of in measures.items():
                    values[title][f"{name} {level:g}"] = of(embedded)
        groups = groups_of(data.split(settings.split).records, clean.record_indices)
        tables: dict[str, dict[str, Any]] = {}
        counts = {}
        for title, each in values.items():
            known = ~np.isnan(each[UNPERTURBED])
            counts[f"n_{title}"] = int(known.sum())
            measured = {row: column[known] for row, column in each.items()}
            for row, figures in _figures(title, measured, ladder, groups[known], settings).items():
                tables.setdefault(row, {}).update(figures)
        curves = {
            title: {
                name: [tables[row][title] for row in (UNPERTURBED, *(f"{name} {level:g}" for level in levels))]
                for name, levels in ladder.items()
            }
            for title in values
        }
        means = {row: tables.pop(f"mean {row}") for row in (*ladder, "all")}
        scores = {"n": len(clean), "groups": len(np.unique(groups)), **counts, "levels": tables, "means": means}
        protocol = PROTOCOL | {
            "tower": tower,
            "score": self.score or "as trained",
            "relevance": f"{self.relevance}: {RELEVANCE[self.relevance]}",
        }
        origin = settings.provenance(model, data, protocol)
        return EvalResult(self.name, scores, origin, {"curves": curves, "values": values, "groups": groups})

    def _ladder(self, known: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
        for name in self.perturbations:
            if name not in known:
                raise UserError(f"--perturbations: no perturbation called {name!r}{nearest(name, known)}")
        return {name: known[name] for name in self.perturbations or known}

    def _perturbed(
        self, model: Aligner, data: Dataset, tower: str, name: str, level: float, settings: EvalSettings
    ) -> EmbeddedSplit:
        batches = perturbed_batches(
            model, data, tower, settings.split, name=name, level=level, seed=settings.seed,
            batch_size=settings.batch_size,
        )  # fmt: skip
        embeddings = model.embed_batches(tower, batches, pack)
        assert embeddings is not None  # the unperturbed samples were embedded
        return EmbeddedSplit(*embeddings)

    def _measures(
        self, model: Aligner, data: Dataset, clean: EmbeddedSplit, other: str, settings: EvalSettings
    ) -> dict[str, Measure]:
        tower, records = clean.embedding.tower, data.split(settings.split).records
        measures: dict[str, Measure] = {}
        if other in data.config.towers and other != tower:
            gallery = embed_split(model, data, other, settings.split, batch_size=settings.batch_size, packed=True)
            relevant = RelevanceMatrix(clean, gallery, records, relevance=self.relevance)
            measures["hit@1"] = partial(_hits, model, gallery, relevant, self.score)
        labels = {label for record in data.records for label in record.labels}
        if labels and other != tower and model.modalities[other].value_is_sample:
            prompts = Prompts.load(self.prompts) if isinstance(self.prompts, str | Path) else self.prompts or Prompts()
            names = prompts.names(sorted(labels))
            texts = [prompts.texts(name) for name in names]
            sentences = PromptEmbeddings(model, other, [text for each in texts for text in each], score=self.score)
            index = {name: column for column, name in enumerate(names)}
            held = [records[row].labels for row in clean.record_indices.tolist()]
            classes = np.array([index[one[0]] if len(one) == 1 else -1 for one in held], dtype=np.int64)
            if len(names) > 1 and (classes >= 0).any():
                measures["top1"] = partial(_right, sentences, texts, classes)
        if not measures:
            raise UserError(
                f"robustness: nothing to measure in split {settings.split!r}: expected a column of the tower {other!r}"
                ", or at least two classes (--data.columns.label) and a tower that reads prompts"
            )
        return measures


def _hits(model: Aligner, gallery: EmbeddedSplit, relevant: RelevanceMatrix, score: str, one: EmbeddedSplit) -> Floats:
    """Whether the first gallery item of each sample is relevant; NaN where none is."""
    blocks = full_blocks(
        one.embedding, gallery.embedding, score=partial(model.similarity, score=score), device=model.device
    )
    ranks = rank_blocks(blocks, relevant, gallery=len(gallery), ks=(1,))
    values = np.full(len(one), np.nan)
    values[ranks.queries.numpy()] = ranks.hit(0).numpy()
    return values


def _right(sentences: PromptEmbeddings, texts: Sequence[Sequence[str]], classes: Ints, one: EmbeddedSplit) -> Floats:
    """Whether the class of each sample is ranked first; NaN where it has none (-1)."""
    scores = sentences.class_scores(one.embedding, texts)
    _, rank = decide(scores, torch.from_numpy(classes.clip(0)))
    return np.asarray(np.where(classes < 0, np.nan, (rank < 1).double().numpy()))


def _figures(
    title: str,
    values: Mapping[str, Floats],
    ladder: Mapping[str, Sequence[float]],
    groups: Ints,
    settings: EvalSettings,
) -> dict[str, dict[str, Any]]:
    """Rows of one measure, with differences and intervals; all are means over samples of what each is worth."""
    columns = dict(values)
    for name, levels in ladder.items():
        columns[f"mean {name}"] = np.mean([values[f"{name} {level:g}"] for level in levels], axis=0)
    columns["mean all"] = np.mean([columns[f"mean {name}"] for name in ladder], axis=0)
    pairs = {(row, title): column for row, column in columns.items()}
    base = values[UNPERTURBED]
    pairs |= {(row, f"{title}_difference"): one - base for row, one in columns.items() if row != UNPERTURBED}
    table = np.stack(list(pairs.values()), axis=1)
    intervals = boot.means(table, groups, resamples=settings.bootstrap, seed=settings.seed)
    figures: dict[str, dict[str, Any]] = {}
    for (row, figure), mean, interval in zip(pairs, table.mean(axis=0).tolist(), intervals, strict=True):
        figures.setdefault(row, {})[figure] = mean
        if interval:
            figures[row][f"{figure}_ci"] = interval
    return figures
