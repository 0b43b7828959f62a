"""Figures of multi-label, probe, few-shot, robustness, geometry, regression and selective-prediction results."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmalign.evaluation.metrics.geometry import centred
from mmalign.evaluation.metrics.selective_prediction import variance_of
from mmalign.pictures import dots, ladders, predicted_and_true, risk_coverage, space_maps, strips

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mmalign.evaluation.report.result import EvalResult


def figures_drawn(result: "EvalResult") -> "Figure | None":
    """Risk-coverage curves if the result has uncertainty, else the task's figure; None for tasks with a matrix."""
    split, details = result.provenance["split"], result.details
    if "uncertainty" in details and result.task != "regression":
        title = f"{result.task}, {split} split: error of the accepted rows ({result.scores['n']} rows)"
        wrong = (
            "fraction of classes predicted wrongly"
            if result.task == "multi-label"
            else "fraction of records predicted wrongly"
        )
        return risk_coverage(details["uncertainty"].curves, ylabel=wrong, title=title)
    if result.task == "regression" and "truth" in details:
        return _numbers(result, split)
    if result.task == "multi-label" and "classes" in result.scores:
        title = f"Zero-shot multi-label, {split} split ({result.scores['n']} rows)"
        rows = _rows(result.scores["classes"], "auroc")
        return dots(rows, xlabel="area under the ROC curve", chance=0.5, title=title)
    if result.task == "probe" and "probes" in result.scores:
        models = {name: row for name, row in result.scores["probes"].items() if not name.endswith(" gain")}
        figure = next(iter(next(iter(models.values()))))
        chance = 0.5 if figure == "macro_auroc" else None
        title = f"Linear probes, {split} split ({result.scores['n']} rows)"
        return dots(_rows(models, figure), xlabel=figure.replace("_", " "), chance=chance, title=title)
    if result.task == "few-shot" and "fold_accuracies" in result.scores:
        title = f"Few-shot classification, {split} split: {result.scores['folds']} folds and their mean"
        folds = result.scores["fold_accuracies"]
        return strips(folds, xlabel="accuracy", chance=result.scores["chance"], title=title)
    if result.task == "robustness" and "curves" in details:
        return ladders(details["curves"], title=f"Robustness, {split} split ({result.scores['n']} samples)")
    if result.task == "geometry" and "vectors" in details:
        vectors = details["vectors"]
        panels = {"as trained": vectors, "centred": {tower: centred(rows) for tower, rows in vectors.items()}}
        gap = result.scores["space"]["as trained"]["modality_gap"]
        title = f"First two principal components, {split} split ({result.scores['n']} pairs, gap {gap:.2f})"
        return space_maps(panels, title=title)
    return None


def _numbers(result: "EvalResult", split: str) -> "Figure":
    details = result.details
    unsure = variance_of(details["embedding"]).get("variance", details["predicted"].spread)
    title = f"Regression by prompts, {split} split: mean error {result.scores['mae']:.3g} of {len(unsure)} rows"
    return predicted_and_true(
        details["truth"],
        details["predicted"].values,
        name=details["target"].replace("_", " "),
        threshold=details["threshold"],
        uncertainty=unsure if "uncertainty" in details else None,
        curves=details["uncertainty"].curves if "uncertainty" in details else None,
        title=title,
    )


def _rows(table: Mapping[str, Mapping[str, Any]], figure: str) -> list[tuple[str, float, list[float]]]:
    return [(name, row[figure], row.get(f"{figure}_ci", [])) for name, row in table.items() if figure in row]
