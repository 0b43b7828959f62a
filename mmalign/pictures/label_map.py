"""Map of a space by class: one panel per tower, classes by colour and by marker."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.pictures.figures import COLOURS, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LABELS = 14
MOST_POINTS = 2000
_MARKERS = "o^svDPX"


def label_map(
    points: Mapping[str, NDArray[np.float64]], labels: Mapping[str, Sequence[str]], *, title: str = ""
) -> "Figure":
    """Draw points in the plane by class; a class has one colour and marker in every panel.

    Args:
        points: Tower -> `(n, 2)`.
        labels: Tower -> class of each point; "" = none, drawn as a small grey dot.
        title: Title of the figure.

    Raises:
        UserError: more than 14 classes, or another number of labels than points.
    """
    names = sorted({name for several in labels.values() for name in several} - {""})
    if len(names) > MOST_LABELS or any(len(points[tower]) != len(labels[tower]) for tower in points):
        raise UserError(f"expected one of at most {MOST_LABELS} classes per point, got {len(names)} classes")
    figure = new_figure(4.4 * len(points) + 1.4, 4.0)
    for number, (tower, places) in enumerate(points.items()):
        axes = figure.add_subplot(1, len(points), number + 1)
        step = -(-len(places) // MOST_POINTS)
        shown, kinds = places[::step], np.array(labels[tower], dtype=object)[::step]
        scatter_classes(axes, shown, kinds, names)
        axes.set(xticks=[], yticks=[])
        axes.set_title(label(tower), fontsize=10)
    if names:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    if title:
        figure.suptitle(label(title, width=78, lines=2), fontsize=10)
    return figure


def scatter_classes(
    axes: "Axes", points: NDArray[np.float64], kinds: NDArray[np.object_], names: Sequence[str], *, size: float = 16
) -> None:
    """Draw points by class on axes, the classes with colours, markers and labels for a legend.

    Args:
        axes: Where to draw.
        points: `(n, 2)`.
        kinds: Class of each point `(n,)`; "" = none, drawn as a small grey dot.
        names: All classes, at most 14, in the order of the colours.
        size: Area of a marker in square points.
    """
    x, y = points[kinds == ""].T
    axes.scatter(x, y, s=size / 4, color="#bbbbbb", linewidths=0)
    for index, name in enumerate(names):
        # Past the colours, the marker shifts by one: no two classes share both.
        marker = _MARKERS[(index + index // len(COLOURS)) % len(_MARKERS)]
        x, y = points[kinds == name].T
        axes.scatter(x, y, s=size, color=COLOURS[index % len(COLOURS)], marker=marker,
                     label=label(name, width=22), alpha=0.75, linewidths=0)  # fmt: skip
