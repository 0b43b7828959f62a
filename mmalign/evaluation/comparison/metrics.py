"""Metrics of a result recomputed from its rows, for any weights of the rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.evaluation.metrics.weighted import Floats, auroc, average_precision, mean, over_classes, spearman
from mmalign.evaluation.report.result import EvalResult
from mmalign.registry import nearest

Statistic = Callable[[Floats], Floats]
"""Weights `(draws, n)` -> values `(draws,)`; NaN where a draw does not define one."""

LOWER_IS_BETTER = frozenset({"mean_rank", "mae", "rmse"})
KEYS = {"retrieval": ("direction", "query", "query_alternative")}
"""Columns that identify a row; of other tasks `id` and `alternative`."""


@dataclass(frozen=True)
class QueryRows:
    """The rows of one direction of a retrieval, or of another task, in the order of their keys.

    Args:
        task: The task.
        columns: Name -> `(n,)`.
        keys: What identifies each row, `n`.
        classes: Number of classes, of a classification.
    """

    task: str
    columns: Mapping[str, NDArray[Any]]
    keys: Sequence[tuple[Any, ...]]
    classes: int = 0

    def statistics(self) -> dict[str, Statistic]:
        """Every metric that the rows define, by name."""
        known = _BY_TASK[self.task](self.columns)
        return {name: metric for name, metric in known.items() if name != "top5" or self.classes > 5}


def rows_by_direction(result: EvalResult) -> dict[str, QueryRows]:
    """The rows of a result by direction; of tasks other than retrieval, by `""`.

    Raises:
        UserError: the result has no rows, or lacks a column.
    """
    if result.task not in _BY_TASK:
        raise UserError(f"the task {result.task!r} has no rows to compare; tasks that have them: {', '.join(_BY_TASK)}")
    names = KEYS.get(result.task, ("id", "alternative"))
    missing = [name for name in (*names, "group") if name not in result.rows]
    if missing:
        raise UserError(
            f"expected the rows of a {result.task} result, without {', '.join(missing)}; evaluate again with --rows"
        )
    columns = {name: _array(values) for name, values in result.rows.items()}
    keys = list(zip(*(columns[name].tolist() for name in names), strict=True))
    directions = columns["direction"].tolist() if result.task == "retrieval" else [""] * len(keys)
    tables = {}
    for direction in dict.fromkeys(directions):
        rows = [index for index, one in enumerate(directions) if one == direction]
        rows.sort(key=lambda index: keys[index])
        tables[direction] = QueryRows(
            result.task,
            {name: values[rows] for name, values in columns.items()},
            [keys[index] for index in rows],
            result.scores["classes"] if isinstance(result.scores.get("classes"), int) else 0,
        )
    return tables


def chosen(known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The metrics to compare: the wanted ones, or the default ones.

    Raises:
        UserError: a wanted metric is not known; the message names the nearest one.
    """
    for name in wanted:
        if name not in known:
            raise UserError(f"--metrics: no metric called {name!r}{nearest(name, known)}")
    return [*wanted] or [name for name in known if not name.startswith(("recall@", "mean_rank"))]


def _retrieval(columns: Mapping[str, NDArray[Any]]) -> dict[str, Statistic]:
    rank = columns["rank"].astype(np.float64)
    if (rank < 1).any():
        raise UserError(f"expected ranks from 1 in the rows of a retrieval, got {rank.min():g}; evaluate again")
    found = [name for kind in ("hit@", "recall@") for name in columns if name.startswith(kind)]
    values = {name: columns[name].astype(np.float64) for name in found}
    hits = [name for name in found if name.startswith("hit@")]
    values |= {"mrr": 1 / rank, "mean_rank": rank}
    order = [*hits, "mrr", *(name for name in found if name not in hits), "mean_rank"]
    return {name: _mean(values[name]) for name in order}


def _zero_shot(columns: Mapping[str, NDArray[Any]]) -> dict[str, Statistic]:
    if "truth_rank" not in columns:
        return _detection(columns, precision="map")
    rank, truth = columns["truth_rank"].astype(np.float64), columns["truth"]
    right = (rank <= 1).astype(np.float64)
    members = truth == np.unique(truth)[:, None]  # (classes, n)

    def balanced(weights: Floats) -> Floats:
        number = weights @ members.T
        hits = weights @ (members * right).T
        return over_classes(np.divide(hits, number, out=np.full(number.shape, np.nan), where=number > 0))

    return {"top1": _mean(right), "top5": _mean((rank <= 5).astype(np.float64)), "balanced_accuracy": balanced}


def _detection(columns: Mapping[str, NDArray[Any]], *, precision: str = "macro_auprc") -> dict[str, Statistic]:
    names = [name.removeprefix("truth/") for name in columns if name.startswith("truth/")]
    truth = {name: columns[f"truth/{name}"].astype(np.bool_) for name in names}
    scores = {name: columns[f"score/{name}"].astype(np.float64) for name in names}
    both = [name for name in names if truth[name].any() and not truth[name].all()]
    if not both:
        raise UserError("no class has rows with and without this label")

    def macro(metric: Callable[..., Floats]) -> Statistic:
        return lambda weights: over_classes(
            np.stack([metric(truth[name], scores[name], weights) for name in both], axis=1)
        )

    return {"macro_auroc": macro(auroc), precision: macro(average_precision)}


def _regression(columns: Mapping[str, NDArray[Any]]) -> dict[str, Statistic]:
    error, truth = columns["error"].astype(np.float64), columns["truth"].astype(np.float64)
    predicted, square = columns["prediction"].astype(np.float64), _mean(error**2)
    return {
        "mae": _mean(np.abs(error)),
        "rmse": lambda weights: np.sqrt(square(weights)),
        "spearman": lambda weights: spearman(truth, predicted, weights),
    }


_BY_TASK: dict[str, Callable[[Mapping[str, NDArray[Any]]], dict[str, Statistic]]] = {
    "retrieval": _retrieval,
    "zero-shot": _zero_shot,
    "multi-label": _detection,
    "regression": _regression,
}


def _mean(values: Floats) -> Statistic:
    """Mean over the rows that have a value: a query without a relevant item has none."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    if known.all():
        return lambda weights: mean(filled, weights)

    def of_known(weights: Floats) -> Floats:
        number = weights @ known
        return np.asarray(np.divide(weights @ filled, number, out=np.full(number.shape, np.nan), where=number > 0))

    return of_known


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    listed = np.empty(len(values), dtype=object)
    listed[:] = values
    return listed
