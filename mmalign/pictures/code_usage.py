"""Usage of a codebook: the fraction of samples that use each code, by tower."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.pictures.figures import COLOURS, label, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def code_usage(used: Mapping[str, NDArray[np.float64]]) -> "Figure":
    """Draw the fraction of samples that use each code, each tower's codes in descending order.

    Args:
        used: Tower -> fraction of its samples, `(codes,)`.

    Raises:
        UserError: no tower.
    """
    if not used:
        raise UserError("expected at least one tower")
    figure = new_figure(6.4, 3.0)
    axes = figure.add_subplot()
    for index, (tower, fractions) in enumerate(used.items()):
        style = ("-", "--", ":", "-.")[index % 4]
        axes.plot(np.sort(fractions)[::-1], color=COLOURS[index % len(COLOURS)], linestyle=style, label=label(tower))
    axes.set_xlabel("codes, the most used first", fontsize=8)
    axes.set_ylabel("fraction of samples", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure
