"""Selective prediction: how well uncertainty estimates rank the errors (risk-coverage curve, AURC, error AUROC).

An uncertainty estimate is any number per row, such as the variance of its embedding or the entropy of its class scores.
Only its order matters; metrics are averaged over all orders of rows with equal uncertainty.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmalign.errors import UserError
from mmalign.evaluation.metrics.labels import with_intervals
from mmalign.evaluation.metrics.weighted import Bools, Floats, Ints, auroc, mean, once, spearman
from mmalign.types import Embedding

KEPT = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3, 0.1)  # fractions of the rows, the least uncertain ones, in the filtering table
PROTOCOL = {
    "uncertainty": "spearman: of error and uncertainty; auroc_of_wrong: wrong rows against right ones; aurc: mean "
    "error of the k most certain rows, mean over all k; excess_aurc: above sorting by the error itself",
    "halves": "rows below and above the median uncertainty; gap: their difference; the halves stay as "
    "they are in every draw",
    "filtering": "the metric of the remaining rows after the most uncertain ones are dropped",
}


@dataclass(frozen=True)
class UncertaintyReport:
    """Metrics and risk-coverage curves of uncertainty estimates.

    Args:
        tables: By name: `uncertainty`, one row per estimate, with `random` and `oracle`, and `filtering`.
        curves: Estimate -> risk at coverage 1/n, 2/n, ... 1, `(n,)`.
        wanted: Name of the metric in halves and filtering.
    """

    tables: dict[str, dict[str, dict[str, Any]]]
    curves: dict[str, Floats]
    wanted: str

    @property
    def protocol(self) -> dict[str, str]:
        """The protocol, for a result's provenance."""
        return PROTOCOL | {"figure of halves and filtering": self.wanted}


def assess(
    definitions: Mapping[str, Floats],
    error: Floats,
    groups: Ints,
    *,
    quality: Callable[[Floats], Floats],
    wanted: str = "accuracy",
    wrong: Bools | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> UncertaintyReport:
    """Compare uncertainty estimates with each other and with random and oracle orderings.

    Args:
        definitions: Name -> uncertainty of each row, `(n,)`, higher = more uncertain.
        error: Error of each row, `(n,)`, at least 0: 0 and 1 in classification, a distance in regression.
        groups: Resampling unit of each row, `(n,)`.
        quality: Weights `(draws, n)` -> the task's metric `(draws,)`, for the two halves and the filtered rows.
        wanted: The name of that metric.
        wrong: Rows that count as wrong, `(n,)`; default: an error above 0, or above the median where errors are not
            0 and 1.
        resamples: 0 = no intervals.
        seed: Seed of the draws, and of the order of equal uncertainties.

    Raises:
        UserError: no definition, one that is not finite, or not one number per row.
    """
    if not definitions:
        raise UserError("uncertainty: expected at least one definition, got none")
    for name, estimate in definitions.items():
        if estimate.shape != error.shape or not np.isfinite(estimate).all():
            raise UserError(f"uncertainty {name!r}: expected {len(error)} finite numbers, got shape {estimate.shape}")
    if wrong is None:
        wrong = np.asarray(error > (0.0 if np.isin(error, (0.0, 1.0)).all() else np.median(error)))
    is_wrong = wrong
    order = {name: _order(estimate, seed) for name, estimate in definitions.items()}
    middle = (len(error) + 1) // 2
    names: list[str] = []
    columns: list[Callable[[Floats], Floats]] = []

    def add(name: str, column: Callable[[Floats], Floats]) -> None:
        names.append(name)
        columns.append(column)

    for name, estimate in definitions.items():
        sure = np.zeros(len(error), dtype=np.bool_)
        sure[order[name][:middle]] = True
        add(f"{name}/spearman", lambda w, d=estimate: spearman(error, d, w))  # type: ignore[misc]
        add(f"{name}/auroc_of_wrong", lambda w, d=estimate: auroc(is_wrong, d, w))  # type: ignore[misc]
        add(f"{name}/aurc", lambda w, d=estimate: aurc(error, d, w))  # type: ignore[misc]
        add(f"{name}/excess_aurc", lambda w, d=estimate: aurc(error, d, w) - aurc(error, error, w))  # type: ignore[misc]
        add(f"{name}/low_uncertainty", lambda w, s=sure: quality(w * s))  # type: ignore[misc]
        add(f"{name}/high_uncertainty", lambda w, s=sure: quality(w * ~s))  # type: ignore[misc]
        add(f"{name}/gap", lambda w, s=sure: quality(w * s) - quality(w * ~s))  # type: ignore[misc]
    add("random/aurc", lambda w: mean(error, w))
    add("random/excess_aurc", lambda w: mean(error, w) - aurc(error, error, w))
    add("oracle/aurc", lambda w: aurc(error, error, w))
    rows = with_intervals(
        lambda weights: np.stack([column(weights) for column in columns], axis=1),
        names,
        groups,
        resamples=resamples,
        seed=seed,
    )
    filtering = {
        name: {f"{fraction:.0%}": _left(quality, order[name], fraction) for fraction in KEPT} for name in definitions
    }
    curves = {name: risk_coverage(error, estimate) for name, estimate in definitions.items()}
    curves |= {"oracle": risk_coverage(error, error), "random": np.full(len(error), error.mean())}
    return UncertaintyReport({"uncertainty": dict(rows), "filtering": filtering}, curves, wanted)


def aurc(error: Floats, uncertainty: Floats, weights: Floats | None = None) -> Floats:
    """Area under the risk-coverage curve: the mean error of the `k` most certain rows, mean over `k = 1 ... n`.

    (Geifman and El-Yaniv 2019, arXiv 1805.08206.) Equal uncertainties contribute the exact mean over their orders:
    with `C` rows of total error `E` before `W` tied rows of mean error `s`, these add
    `sum_{i=1..W} (E + i s) / (C + i) = W s + (E - s C) (H_{C+W} - H_C)`, `H` being harmonic numbers.

    Args:
        error: `(n,)`.
        uncertainty: `(n,)`, higher = more uncertain.
        weights: `(draws, n)`, how often each row counts, whole numbers; default: once.

    Returns:
        `(draws,)`.

    Example:
        >>> aurc(np.array([0.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.3])).round(4)  # (0 + 0 + 1/3) / 3
        array([0.1111])
    """
    weights = once(len(error)) if weights is None else weights
    order = np.argsort(uncertainty, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(uncertainty[order])) + 1)
    size = np.add.reduceat(weights[:, order], starts, axis=1)
    sums = np.add.reduceat(weights[:, order] * error[order], starts, axis=1)
    reached, errors = size.cumsum(axis=1), sums.cumsum(axis=1)
    before, errors = reached - size, errors - sums
    each = np.divide(sums, size, out=np.zeros_like(sums), where=size > 0)
    harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, int(reached.max()) + 1)))
    steps = harmonic[reached.astype(np.int64)] - harmonic[before.astype(np.int64)]
    total = (sums + (errors - each * before) * steps).sum(axis=1)
    return np.asarray(total / reached[:, -1])


def risk_coverage(error: Floats, uncertainty: Floats) -> Floats:
    """Mean error of the `k` most certain rows, for `k = 1 ... n`: `(n,)`; among equal uncertainties the expected one.

    Example:
        >>> risk_coverage(np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.3, 0.1, 0.1, 0.9]))
        array([0.        , 0.        , 0.33333333, 0.5       ])
    """
    _, level = np.unique(uncertainty, return_inverse=True)
    shared = np.bincount(level, weights=error) / np.bincount(level)
    ordered = shared[np.sort(level)]
    return np.asarray(ordered.cumsum() / np.arange(1, len(error) + 1))


def class_uncertainties(logits: Floats) -> dict[str, Floats]:
    """Uncertainty of samples that belong to one class each: `entropy` of softmax, and `margin`.

    Args:
        logits: `(n, classes)`, scores times the learnt scale. `margin` is minus the difference between the highest and
            the second highest logit.
    """
    ordered = np.sort(logits, axis=1)
    chance = np.exp(logits - ordered[:, -1:])
    chance /= chance.sum(axis=1, keepdims=True)
    return {"entropy": -_xlogx(chance).sum(axis=1), "margin": ordered[:, -2] - ordered[:, -1]}


def detection_uncertainties(logits: Floats) -> dict[str, Floats]:
    """Uncertainty of samples with any number of classes: means over classes of `entropy` and `margin`.

    Args:
        logits: `(n, classes)`, scores minus their thresholds, times the learnt scale; 0 is undecided.
    """
    chance = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return {
        "entropy": -(_xlogx(chance) + _xlogx(1 - chance)).mean(axis=1),
        "margin": -np.abs(logits).mean(axis=1),
    }


def variance_of(samples: Embedding) -> dict[str, Floats]:
    """The embedding variance of a probabilistic model, as `variance`; empty for other models."""
    if samples.log_variance is None:
        return {}
    return {"variance": samples.uncertainty.double().numpy()}


def _order(uncertainty: Floats, seed: int) -> Ints:
    mixed = np.random.default_rng(seed).permutation(len(uncertainty))
    return np.asarray(mixed[np.argsort(uncertainty[mixed], kind="stable")])


def _left(quality: Callable[[Floats], Floats], order: Ints, fraction: float) -> float:
    weights = np.zeros((1, len(order)))
    weights[0, order[: max(1, round(fraction * len(order)))]] = 1.0
    return float(quality(weights)[0])


def _xlogx(chance: Floats) -> Floats:
    return np.asarray(chance * np.log(np.maximum(chance, 1e-300)))
