"""Figures of selective prediction and regression: risk-coverage curves, predicted against true values."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.pictures.figures import BLUE, COLOURS, GREY, VERMILION, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

MAX_POINTS = 20_000
_BOUNDS = {"random": "--", "oracle": ":"}  # drawn in grey: bounds of all orderings


def risk_coverage(curves: Mapping[str, Floats], *, ylabel: str = "error", title: str = "") -> "Figure":
    """Draw risk-coverage curves: mean error of the least uncertain records against their fraction.

    Args:
        curves: Name -> risk at coverage 1/n, 2/n, ... 1, `(n,)`; `random` and `oracle` are drawn in grey.
        ylabel: Name of the risk.
        title: Title of the figure.

    Raises:
        UserError: no curve, or a curve without points.
    """
    figure = new_figure(5.6, 4.2)
    _risk(figure.add_subplot(), curves, ylabel)
    _title(figure, title)
    return figure


def predicted_and_true(
    truth: Floats,
    predicted: Floats,
    *,
    name: str = "",
    threshold: float | None = None,
    uncertainty: Floats | None = None,
    curves: Mapping[str, Floats] | None = None,
    title: str = "",
) -> "Figure":
    """Draw predicted against true values with the identity line; with `curves`, also a risk-coverage panel.

    Args:
        truth: `(n,)`.
        predicted: `(n,)`.
        name: Name of the target, with its unit.
        threshold: Drawn on both axes.
        uncertainty: `(n,)`: colours the points, dark = low uncertainty.
        curves: As in `risk_coverage`, of absolute errors.
        title: Title of the figure.

    Raises:
        UserError: inconsistent shapes, or more than 20,000 points.
    """
    if truth.shape != predicted.shape or not 0 < len(truth) <= MAX_POINTS:
        came = f"{truth.shape} and {predicted.shape}"
        raise UserError(f"expected 1 to {MAX_POINTS} numbers and as many predictions, got {came}")
    figure = new_figure(10.8 if curves else 5.4, 4.6)
    axes = figure.add_subplot(1, 2 if curves else 1, 1)
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    edge = 0.04 * (high - low) or 1.0
    axes.plot([low - edge, high + edge], [low - edge, high + edge], color=GREY, linewidth=1.0, linestyle="--")
    if threshold is not None:
        for line in (axes.axhline, axes.axvline):
            line(threshold, color=VERMILION, linewidth=1.0, linestyle=":")
    size = float(np.clip(4000 / len(truth), 4, 30))
    if uncertainty is None:
        axes.scatter(truth, predicted, s=size, color=BLUE, alpha=0.6, linewidths=0)
    else:
        # By rank, not by value, so that a few very uncertain records do not dominate the colour scale.
        order = 100 * np.argsort(np.argsort(uncertainty)) / max(1, len(truth) - 1)
        drawn = axes.scatter(truth, predicted, s=size, c=order, cmap="viridis", alpha=0.8, linewidths=0)
        figure.colorbar(drawn, ax=axes, label="uncertainty (percentile)", shrink=0.8)
    axes.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge))
    axes.set_xlabel(label(f"true {name}".strip(), width=48))
    axes.set_ylabel(label(f"predicted {name}".strip(), width=48))
    _plain(axes)
    if curves:
        _risk(figure.add_subplot(1, 2, 2), curves, "mean absolute error")
    _title(figure, title)
    return figure


def dots(
    rows: Sequence[tuple[str, float, Sequence[float]]], *, xlabel: str, chance: float | None = None, title: str = ""
) -> "Figure":
    """Draw one value per row with its confidence interval, such as classes of a detector or label fractions of a probe.

    Args:
        rows: Name, value, interval (empty = none), from top to bottom.
        xlabel: Name of the value.
        chance: Chance level, drawn as a line.
        title: Title of the figure.

    Raises:
        UserError: no row.
    """
    if not rows:
        raise UserError("expected at least one row to draw")
    figure = new_figure(6.0, 1.3 + 0.32 * len(rows))
    axes = figure.add_subplot()
    for line, (_, value, interval) in enumerate(rows):
        if len(interval):
            axes.plot(interval, [line, line], color=BLUE, linewidth=1.6)
        axes.plot([value], [line], color=BLUE, marker="o", markersize=5)
    if chance is not None:
        axes.axvline(chance, color=GREY, linewidth=1.0, linestyle="--")
    axes.set_yticks(range(len(rows)), [label(name, width=36) for name, _, _ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label(xlabel, width=60))
    _plain(axes)
    _title(figure, title)
    return figure


def _risk(axes: "Axes", curves: Mapping[str, Floats], ylabel: str) -> None:
    if not curves or any(not len(curve) for curve in curves.values()):
        raise UserError("risk and coverage: expected at least one curve with points")
    ways = [name for name in curves if name not in _BOUNDS]
    for index, name in enumerate([*ways, *(name for name in _BOUNDS if name in curves)]):
        curve = curves[name]
        coverage = np.arange(1, len(curve) + 1) / len(curve)
        colour, style = (GREY, _BOUNDS[name]) if name in _BOUNDS else (COLOURS[index % len(COLOURS)], "-")
        axes.plot(100 * coverage, curve, linewidth=1.6, color=colour, linestyle=style, label=label(name))
    # The first points average only a few errors; they do not set the scale.
    top = max(float(curve[max(0, len(curve) // 20 - 1) :].max()) for curve in curves.values())
    axes.set_ylim(0, 1.08 * top if top > 0 else 1)
    axes.set_xlim(0, 100)
    axes.set_xlabel("coverage: accepted rows, the most certain first (per cent)")
    axes.set_ylabel(label(ylabel, width=48))
    _plain(axes)
    axes.legend(fontsize=8, frameon=False)


def _plain(axes: "Axes") -> None:
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _title(figure: "Figure", title: str) -> None:
    if title:
        figure.suptitle(label(title, width=int(13 * figure.get_figwidth()), lines=3), fontsize=10)
