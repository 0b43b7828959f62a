"""Figure of a result: similarity matrix or confusion matrix."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmalign.data.split import Split
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.evaluation.ranking.relevance import RelevanceMatrix
from mmalign.evaluation.report.task_figures import figures_drawn
from mmalign.model import Aligner
from mmalign.pictures import confusion, save, similarity_matrix
from mmalign.pictures.distinct import distinct_labels
from mmalign.pictures.matrices import Draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmalign.evaluation.report.result import EvalResult

_IN_BLOCKS, _ALONE = 100, 24  # maximum number of records, grouped by class or each with its name


def draw(result: "EvalResult", path: Path | str) -> Path:
    """Draw the figure of a result and save it.

    Raises:
        UserError: the result was read from a file and has no details to draw from.
    """
    return save(figure(result), path)


def figure(result: "EvalResult") -> "Figure":
    """Similarity matrix of a retrieval, confusion matrix of a classification; see `figures_drawn` for the others."""
    details, split = result.details, result.provenance["split"]
    if (drawn := figures_drawn(result)) is not None:
        return drawn
    if "similarity" in details:
        matrix = details["similarity"]
        shown, all_of_them = len(matrix["labels_a"]), next(iter(result.scores.values()))["n"]
        return similarity_matrix(
            **matrix, title=f"Similarity: {shown} records of the {split} split ({all_of_them} queries)"
        )
    if "confusion" in details:
        top1 = result.scores["top1"]
        title = f"Zero-shot classification, {split} split: {top1:.1%} right of {result.scores['n']}"
        return confusion(details["confusion"], details["classes"], title=title)
    raise UserError(f"nothing to draw: a {result.task} result with several labels per record, or read from a file")


def similarity_of(
    model: Aligner, a: EmbeddedSplit, b: EmbeddedSplit, split: Split, *, relevance: str
) -> dict[str, Any]:
    """Arguments of `similarity_matrix` for a readable number of records.

    Records with classes are grouped by class, with equal numbers per class. Of others each has its label: a sentence
    without the beginning that all share, or a thumbnail drawn by its modality.
    """
    records = split.records
    both = sorted(set(a.record_indices.tolist()) & set(b.record_indices.tolist()))
    classes = {row: ", ".join(records[row].labels) for row in both}
    grouped = 1 < len(set(classes.values())) <= len(both) / 2
    shown = _spread(both, classes) if grouped else both[:_ALONE]
    items_a, items_b = _first_items(a, shown), _first_items(b, shown)
    sub_a, sub_b = (EmbeddedSplit(s.embedding[i], s.record_indices[i]) for s, i in ((a, items_a), (b, items_b)))
    relevant = RelevanceMatrix(sub_a, sub_b, records, relevance=relevance)[0 : len(shown)].toarray() > 0
    with torch.no_grad():
        scores = model.similarity(sub_a.embedding.to(model.device), sub_b.embedding.to(model.device)).cpu()
    towers = a.embedding.tower, b.embedding.tower
    blocks = [classes[row] or "(no class)" for row in shown]
    arguments: dict[str, Any] = {"scores": scores, "relevant": torch.from_numpy(relevant)}
    for side, tower in zip("ab", towers, strict=True):
        labels, name, thumbnails = (blocks, tower, []) if grouped else _labels(model, split, shown, tower)
        arguments |= {f"labels_{side}": labels, f"side_{side}": name, f"thumbnails_{side}": thumbnails}
    return arguments


def _labels(model: Aligner, split: Split, rows: Sequence[int], tower: str) -> tuple[list[str], str, list[Draw]]:
    """Labels of records, the name of their axis, and their thumbnails; sentences have none."""
    samples = [split.store.get(split.indices[row], tower) for row in rows]
    ids = [split.records[row].id for row in rows]
    if all(isinstance(sample, str) for sample in samples):
        labels, common = distinct_labels(samples, ids)
        return labels, f"{tower} ({common} …)" if common else tower, []
    picture = model.modalities[tower].picture
    return ids, tower, [partial(picture, sample) for sample in samples]


def _spread(rows: Sequence[int], classes: dict[int, str]) -> list[int]:
    by_class: dict[str, list[int]] = {}
    for row in rows:
        by_class.setdefault(classes[row], []).append(row)
    each = max(1, _IN_BLOCKS // len(by_class))
    return [row for name in sorted(by_class)[:_IN_BLOCKS] for row in by_class[name][:each]]


def _first_items(embedded: EmbeddedSplit, rows: Sequence[int]) -> Tensor:
    first = {row: item for item, row in reversed(list(enumerate(embedded.record_indices.tolist())))}
    return torch.tensor([first[row] for row in rows], dtype=torch.long)
