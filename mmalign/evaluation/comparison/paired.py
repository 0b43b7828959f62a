"""Paired bootstrap: differences of metrics on the same queries, and Holm's correction of their p values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmalign.evaluation.comparison.metrics import Statistic
from mmalign.evaluation.metrics import bootstrap as boot
from mmalign.evaluation.metrics.weighted import Floats, Ints, once


@dataclass(frozen=True)
class Draws:
    """Metrics of several models on the same bootstrap draws.

    Args:
        values: Model -> metric -> value on all rows.
        drawn: Model -> metric -> value on each draw, `(draws,)`; NaN where a draw does not define one.
    """

    values: Mapping[str, Mapping[str, float]]
    drawn: Mapping[str, Mapping[str, Floats]]

    def interval(self, model: str, metric: str) -> list[float]:
        """The 95 % percentile interval of a model's metric."""
        return boot.percentiles(self.drawn[model][metric])

    def difference(self, model: str, baseline: str, metric: str) -> tuple[float, list[float], float]:
        """Difference of two models, its 95 % percentile interval and its two-sided p value.

        The p value is that of the percentile bootstrap, `2 min(P(d* <= 0), P(d* >= 0))` with one draw added to each
        count (Efron and Tibshirani 1993, chapter 15; Davison and Hinkley 1997, section 4.2).
        """
        apart = self.drawn[model][metric] - self.drawn[baseline][metric]
        apart = apart[~np.isnan(apart)]
        value = self.values[model][metric] - self.values[baseline][metric]
        below, above = int((apart <= 0).sum()), int((apart >= 0).sum())
        p = min(1.0, 2 * (1 + min(below, above)) / (len(apart) + 1))
        return value, boot.percentiles(apart), p


def draw(statistics: Mapping[str, Mapping[str, Statistic]], groups: Ints, *, resamples: int, seed: int) -> Draws:
    """Compute the metrics of all models on the same bootstrap draws of whole groups.

    Args:
        statistics: Model -> metric -> function of the rows' weights; the rows of all models are in the same order.
        groups: Resampling unit of each row, `(n,)`.
        resamples: Number of draws.
        seed: Seed of the draws.

    Example:
        >>> right = {"a": np.array([1.0, 1.0, 0.0, 1.0]), "b": np.array([0.0, 1.0, 0.0, 0.0])}
        >>> metrics = {name: {"top1": lambda weights, x=x: weights @ x / 4} for name, x in right.items()}
        >>> draw(metrics, np.arange(4), resamples=200, seed=0).difference("a", "b", "top1")[:2]
        (0.5, [0.0, 1.0])
    """
    _, cluster = np.unique(groups, return_inverse=True)
    number = int(cluster.max()) + 1
    values = {
        model: {name: float(metric(once(len(cluster)))[0]) for name, metric in metrics.items()}
        for model, metrics in statistics.items()
    }
    parts: dict[str, dict[str, list[Floats]]] = {model: {name: [] for name in one} for model, one in statistics.items()}
    for weights in boot.draws(number, resamples=resamples, seed=seed, width=len(cluster)):
        of_rows = weights[:, cluster]
        for model, metrics in statistics.items():
            for name, metric in metrics.items():
                parts[model][name].append(metric(of_rows))
    drawn = {
        model: {name: np.concatenate(pieces) for name, pieces in metrics.items()} for model, metrics in parts.items()
    }
    return Draws(values, drawn)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values adjusted so that the family-wise error rate holds for the whole family.

    In ascending order, the i-th of m p values becomes `max over j <= i of (m - j + 1) p_j`, at most 1 (Holm 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted
