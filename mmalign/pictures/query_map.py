"""Map of an embedded table on its first two principal components, with a query and its answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmalign.pictures.figures import VERMILION, new_figure
from mmalign.pictures.label_map import MOST_LABELS, scatter_classes
from mmalign.pictures.spaces import Floats, PrincipalAxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 3
"""Answers whose rank is written beside them; more would cover each other."""


def query_map(
    points: Floats,
    labels: Sequence[str],
    axes_of_space: PrincipalAxes,
    *,
    query: Floats | None = None,
    answers: Floats | None = None,
    query_name: str = "query",
) -> "Figure":
    """Draw rows of a table in the plane, by class where there are 2 to 14; the query as a star, its answers as rings.

    Args:
        points: Coordinates of rows, `(n, 2)`.
        labels: Class of each row; "" = none.
        axes_of_space: The components, whose share of the variance is stated.
        query: Coordinates of the query, `(2,)`.
        answers: Coordinates of the answers, `(k, 2)`, best first; the first three are numbered.
        query_name: Name of the query in the legend.
    """
    names = sorted({*labels} - {""})
    if not 1 < len(names) <= MOST_LABELS:
        names = []
    kinds = np.array([one if one in names else "" for one in labels], dtype=object)
    figure = new_figure(6.4, 4.6)
    axes = figure.add_subplot()
    scatter_classes(axes, points, kinds, names, size=16)
    if answers is not None and len(answers):
        x, y = answers.T
        axes.scatter(x, y, s=70, facecolors="none", edgecolors="black", linewidths=1.2, label="answers")
        for rank, (one_x, one_y) in enumerate(answers[:NUMBERED].tolist(), 1):
            axes.annotate(str(rank), (one_x, one_y), (5, 5 * (-1) ** rank), textcoords="offset points", fontsize=9,
                          weight="bold")  # fmt: skip
    if query is not None:
        axes.scatter(
            query[:1], query[1:], s=220, marker="*", color=VERMILION, edgecolors="black", label=query_name, zorder=5
        )
    axes.set(xticks=[], yticks=[])
    first, second = axes_of_space.explained
    axes.set_xlabel(f"first principal component ({first:.0%} of the variance)", fontsize=9)
    axes.set_ylabel(f"second ({second:.0%})", fontsize=9)
    if names or query is not None:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    return figure
