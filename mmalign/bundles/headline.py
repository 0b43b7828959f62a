"""The principal metrics of a saved result, each with its interval and baseline, for model cards and reports."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

TRAINING_MEAN, RANDOM_WEIGHTS = "training mean", "random weights"
CHANCE = "chance"


class Headline(NamedTuple):
    """One metric.

    Args:
        name: The metric, with the direction of a retrieval or the row of a table.
        value: Its value.
        interval: Its 95 % interval; empty = none.
        baseline: Value of the baseline; None = none.
        baseline_name: What the baseline is: chance, the training mean, or random weights.
    """

    name: str
    value: float
    interval: tuple[float, ...]
    baseline: float | None
    baseline_name: str


def headlines(result: Mapping[str, Any]) -> list[Headline]:
    """The principal metrics of a result.

    Args:
        result: As `EvalResult.to_json` returns it; entries of other kinds are left out.

    Example:
        >>> scores = {"top1": 0.5, "top1_ci": [0.4, 0.6], "classes": 4, "n": 80}
        >>> headlines({"task": "zero-shot", "scores": scores})
        [Headline(name='top1', value=0.5, interval=(0.4, 0.6), baseline=0.25, baseline_name='chance')]
    """
    scores, task = result.get("scores"), result.get("task")
    if not isinstance(scores, Mapping):
        return []
    found = {"retrieval": _retrieval, "regression": _regression, "probe": _probe, "few-shot": _few_shot}
    return list(found.get(str(task), _plain)(scores))


def _retrieval(scores: Mapping[str, Any]) -> Iterator[Headline]:
    for direction, column in scores.items():
        if isinstance(column, Mapping):
            chance = column.get(CHANCE)
            for name in column:
                if name == "mrr" or (name.startswith("hit@") and not name.endswith("_ci")):
                    base = chance.get(name) if isinstance(chance, Mapping) else None
                    yield from _one(column, name, base, CHANCE, f"{direction.replace('_to_', ' → ')} {name}")


def _plain(scores: Mapping[str, Any]) -> Iterator[Headline]:
    classes = scores.get("classes")
    uniform = 1 / classes if isinstance(classes, int) and classes > 0 else None
    bases = {"top1": uniform, "balanced_accuracy": uniform, "macro_auroc": 0.5, "macro_balanced_accuracy": 0.5}
    for name in ("top1", "top5", "balanced_accuracy", "macro_auroc", "map", "macro_auprc", "macro_balanced_accuracy"):
        yield from _one(scores, name, bases.get(name), CHANCE)


def _regression(scores: Mapping[str, Any]) -> Iterator[Headline]:
    rows = scores.get("rows")
    mean = rows.get(TRAINING_MEAN) if isinstance(rows, Mapping) else None
    for name in ("mae", "rmse", "r2", "spearman", "auroc"):
        base = mean.get(name) if isinstance(mean, Mapping) else None
        yield from _one(scores, name, base, TRAINING_MEAN)


def _probe(scores: Mapping[str, Any]) -> Iterator[Headline]:
    table = scores.get("probes")
    for row, column in table.items() if isinstance(table, Mapping) else ():
        if row.endswith(" trained") and isinstance(column, Mapping):
            random = table.get(row.removesuffix("trained") + "random") if isinstance(table, Mapping) else None
            for name in list(column)[:1]:
                base = random.get(name) if isinstance(random, Mapping) else None
                yield from _one(column, name, base, RANDOM_WEIGHTS, f"{row.removesuffix(' trained')}: {name}")


def _few_shot(scores: Mapping[str, Any]) -> Iterator[Headline]:
    table = scores.get("accuracy")
    for row, column in table.items() if isinstance(table, Mapping) else ():
        if isinstance(column, Mapping):
            yield from _one(column, "accuracy", scores.get("chance"), CHANCE, f"{row}: accuracy")


def _one(column: Mapping[str, Any], name: str, base: Any, base_name: str, shown: str = "") -> Iterator[Headline]:
    value, interval = column.get(name), column.get(f"{name}_ci")
    if isinstance(value, int | float) and not isinstance(value, bool):
        edges = tuple(map(float, interval)) if isinstance(interval, list | tuple) and len(interval) == 2 else ()
        known = isinstance(base, int | float)
        yield Headline(shown or name, float(value), edges, float(base) if known else None, base_name if known else "")
