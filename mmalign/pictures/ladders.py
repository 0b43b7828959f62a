"""Ladder plots: a metric against the level of each perturbation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmalign.errors import UserError
from mmalign.pictures.figures import COLOURS, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ladders(curves: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> "Figure":
    """Draw one panel per metric, and in it one curve per perturbation.

    Args:
        curves: Metric -> perturbation -> values from unperturbed (level 0) to the strongest level.
        title: Title of the figure.

    Raises:
        UserError: no panel, or a panel without curves.
    """
    if not curves or not all(curves.values()):
        raise UserError("expected at least one metric to draw, each with curves")
    figure = new_figure(5.0 * len(curves), 3.8)
    for panel, (metric, named) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), panel + 1)
        for index, (name, values) in enumerate(named.items()):
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(range(len(values)), values, color=colour, marker="o", markersize=4, label=label(name))
        axes.set_xticks(range(max(map(len, named.values()))))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("level (0 = unperturbed)")
        axes.set_ylabel(label(metric))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    if title:
        figure.suptitle(label(title, width=78, lines=2), fontsize=10)
    return figure
