"""Forest plot: differences with their intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mmalign.errors import UserError
from mmalign.pictures.figures import BLUE, GREY, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 200


class ForestRow(NamedTuple):
    """One difference.

    Args:
        name: Its name.
        value: The difference.
        interval: Low and high; empty = none.
        significant: Filled marker and thick line; others are hollow and thin.
        unit: Rows of one unit share a panel and its axis.
    """

    name: str
    value: float
    interval: Sequence[float]
    significant: bool
    unit: str = ""


def forest(rows: Sequence[ForestRow], *, xlabel: str, title: str = "") -> "Figure":
    """Draw differences with their intervals, one row each, and a line at zero.

    Args:
        rows: From top to bottom.
        xlabel: Name of the difference.
        title: Title of the figure.

    Raises:
        UserError: no row, or more than 200.
    """
    if not 0 < len(rows) <= MAX_ROWS:
        raise UserError(f"expected 1 to {MAX_ROWS} differences to draw, got {len(rows)}")
    panels = {unit: [row for row in rows if row.unit == unit] for unit in dict.fromkeys(row.unit for row in rows)}
    heights = [len(several) + 1.2 for several in panels.values()]
    figure = new_figure(7.0, 1.2 + 0.3 * sum(heights))
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for index, several in enumerate(panels.values()):
        axes = figure.add_subplot(grid[index, 0])
        axes.axvline(0.0, color=GREY, linewidth=1.0, linestyle="--")
        for line, row in enumerate(several):
            if len(row.interval):
                axes.plot(row.interval, [line, line], color=BLUE, linewidth=2.4 if row.significant else 1.0)
            axes.plot([row.value], [line], color=BLUE, marker="D" if row.significant else "o", markersize=5.5,
                      markerfacecolor=BLUE if row.significant else "white", linestyle="none")  # fmt: skip
        axes.set_yticks(range(len(several)), [label(row.name, width=60) for row in several], fontsize=8)
        axes.set_ylim(len(several) - 0.4, -0.6)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(label(f"{xlabel}; filled diamond: significant at 5 % after Holm", width=100), fontsize=8)
    if title:
        figure.suptitle(label(title, width=84, lines=2), fontsize=10)
    return figure
