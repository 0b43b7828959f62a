"""Strip plots: every value of a row as a dot, with the row's mean."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmalign.errors import UserError
from mmalign.pictures.figures import BLUE, GREY, VERMILION, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 0.3  # of a strip, in rows: dots are spread in order, so that equal values stay visible


def strips(
    rows: Mapping[str, Sequence[float]], *, xlabel: str, chance: float | None = None, title: str = ""
) -> "Figure":
    """Draw every value of each row, such as the accuracy of each fold, and a bar at their mean.

    Args:
        rows: Name -> values, from top to bottom.
        xlabel: Name of the value.
        chance: Chance level, drawn as a line.
        title: Title of the figure.

    Raises:
        UserError: no row, or a row without values.
    """
    if not rows or not all(len(values) for values in rows.values()):
        raise UserError("expected at least one row to draw, each with values")
    figure = new_figure(6.0, 1.3 + 0.4 * len(rows))
    axes = figure.add_subplot()
    for index, values in enumerate(rows.values()):
        heights = index + np.linspace(-_HEIGHT, _HEIGHT, len(values)) if len(values) > 1 else [index]
        axes.plot(values, heights, color=BLUE, marker="o", markersize=4, linestyle="none", alpha=0.7)
        mean = float(np.mean(values))
        axes.plot([mean, mean], [index - _HEIGHT, index + _HEIGHT], color=VERMILION, linewidth=2.0)
    if chance is not None:
        axes.axvline(chance, color=GREY, linewidth=1.0, linestyle="--")
    axes.set_yticks(range(len(rows)), [label(name, width=36) for name in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label(xlabel, width=60))
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(label(title, width=78, lines=2), fontsize=10)
    return figure
