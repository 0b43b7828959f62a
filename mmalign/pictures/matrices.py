"""Matrix figures: similarity matrix and confusion matrix."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmalign.errors import UserError
from mmalign.pictures.figures import VERMILION, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[["Axes"], None]

MAX_SIDE = 2000
THUMBNAIL = 0.7
"""Width of a row's thumbnail, and height of a column's, in inches."""
_MARKED = 40  # maximum number of rows with the best column marked


def similarity_matrix(
    scores: Tensor,
    labels_a: Sequence[str],
    labels_b: Sequence[str],
    *,
    side_a: str = "a",
    side_b: str = "b",
    title: str = "",
    relevant: Tensor | None = None,
    thumbnails_a: Sequence[Draw] = (),
    thumbnails_b: Sequence[Draw] = (),
) -> "Figure":
    """Draw a similarity matrix; adjacent items of one label form a block with one name and a border.

    Colours are centred at 0 where scores have both signs.

    Args:
        scores: `(n, m)`, higher = more similar.
        labels_a: Label of each row.
        labels_b: Label of each column.
        side_a: Name of the rows.
        side_b: Name of the columns.
        title: Title of the figure.
        relevant: `(n, m)`, True = relevant. With up to 40 rows, the best column of each row gets a white dot if it is
            relevant and a red cross otherwise.
        thumbnails_a: Draws each row's sample on axes, in place of its label; empty = labels.
        thumbnails_b: Draws each column's sample.

    Raises:
        UserError: inconsistent shapes, or more than 2,000 rows or columns.
    """
    n, m = scores.shape
    if (len(labels_a), len(labels_b)) != (n, m):
        raise UserError(f"expected {n} and {m} labels for scores of {n} x {m}, got {len(labels_a)} and {len(labels_b)}")
    if not 0 < max(n, m) <= MAX_SIDE:
        raise UserError(f"expected 1 to {MAX_SIDE} rows and columns, got {n} x {m}; take a part")
    if (len(thumbnails_a) or n, len(thumbnails_b) or m) != (n, m):
        raise UserError(f"expected {n} and {m} thumbnails, or none, got {len(thumbnails_a)} and {len(thumbnails_b)}")
    blocks_a, blocks_b = _blocks(labels_a), _blocks(labels_b)
    cell = min(0.5, max(5.2 / max(n, m), 0.19 * max(len(blocks_a), len(blocks_b)) / max(n, m)))
    if thumbnails_a or thumbnails_b:
        cell = max(cell, 0.42)
    room = "x" * round((THUMBNAIL + 0.15) / 0.075)
    rows = [room] if thumbnails_a else [name for *_, name in blocks_a]
    columns = [room] if thumbnails_b else [name for *_, name in blocks_b]
    figure = _sized(cell * m, cell * n, rows=rows, columns=columns)
    axes = figure.add_subplot()
    drawn = axes.imshow(scores.numpy(), interpolation="nearest", aspect="equal", **colour_scale(scores))
    for which, blocks, thumbnails in (("y", blocks_a, thumbnails_a), ("x", blocks_b, thumbnails_b)):
        if thumbnails:
            _thumbnail_axis(axes, which, thumbnails)
        else:
            _block_axis(axes, which, blocks)
    axes.set_ylabel(label(side_a))
    axes.set_xlabel(label(side_b))
    if relevant is not None and n <= _MARKED:
        _mark_best(axes, scores, relevant)
    figure.colorbar(drawn, ax=axes, label="score", shrink=0.8)
    _title(figure, title)
    return figure


def confusion(counts: Tensor, names: Sequence[str], *, title: str = "") -> "Figure":
    """Draw a confusion matrix: rows are true classes, columns predicted ones, colours fractions of the row.

    Args:
        counts: `(classes, classes)`, rows = true.
        names: Names of the classes. With up to 20, cells show percentages and rows their number of samples.
        title: Title of the figure.
    """
    if counts.shape != (len(names), len(names)):
        raise UserError(f"expected counts of {len(names)} x {len(names)}, one per class, got {tuple(counts.shape)}")
    total = counts.sum(dim=1, keepdim=True)
    share = (100 * counts.double() / total.clamp(min=1)).numpy()
    many = len(names) > 20
    rows = [
        name if many else f"{label(name, width=26)}  ({int(n)})"
        for name, n in zip(names, total.squeeze(1), strict=True)
    ]
    inches = min(13.0, max(2.0, (0.17 if many else 0.5) * len(names)))
    figure = _sized(inches, inches, rows=rows, columns=names)
    axes = figure.add_subplot()
    drawn = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="equal")
    _block_axis(axes, "y", [(i, i + 1, name) for i, name in enumerate(rows)], width=36)
    _block_axis(axes, "x", [(i, i + 1, name) for i, name in enumerate(names)])
    axes.set_ylabel("true class" if many else "true class (samples)")
    axes.set_xlabel("predicted class")
    if not many:
        for (row, column), value in np.ndenumerate(share):
            if counts[row, column]:
                shown = f"{value:.0f}" if value >= 0.5 else "<1"
                colour = "white" if value > 55 else "black"
                axes.text(column, row, shown, ha="center", va="center", fontsize=8, color=colour)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label("per cent of the true class")
    _title(figure, title)
    return figure


def _sized(width: float, height: float, *, rows: Sequence[str], columns: Sequence[str]) -> "Figure":
    """Create a figure with space for a matrix of this size in inches, its names and a colour bar."""
    beside, below = (0.075 * min(cap, max(map(len, names))) for names, cap in ((rows, 36), (columns, 26)))
    return new_figure(max(2.8, width) + beside + 1.9, max(2.8, height) + 0.75 * below + 1.3)


def _title(figure: "Figure", title: str) -> None:
    if title:
        figure.suptitle(label(title, width=int(10 * figure.get_figwidth()), lines=3), fontsize=10)


def _blocks(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Runs of one label: start, stop, label."""
    starts = [i for i, name in enumerate(labels) if i == 0 or labels[i - 1] != name]
    return [(start, stop, labels[start]) for start, stop in zip(starts, [*starts[1:], len(labels)], strict=True)]


def colour_scale(values: Tensor) -> dict[str, Any]:
    """Colour map of `imshow`: of values with both signs a diverging one, centred at 0.

    Example:
        >>> import torch
        >>> colour_scale(torch.tensor([-0.2, 0.5]))
        {'cmap': 'RdBu_r', 'vmin': -0.5, 'vmax': 0.5}
        >>> colour_scale(torch.tensor([0.2, 0.5]))
        {'cmap': 'viridis'}
    """
    low, high = float(values.min()), float(values.max())
    bound = max(-low, high)
    return {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound} if low < 0 < high else {"cmap": "viridis"}


def _thumbnail_axis(axes: "Axes", which: str, thumbnails: Sequence[Draw]) -> None:
    """Draw the samples beside the rows, or below the columns."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    axis: Any = axes.yaxis if which == "y" else axes.xaxis
    axis.set_ticks([])
    axis.labelpad = 72 * THUMBNAIL + 8
    corner: Any = axes.transAxes
    inches = axes.figure.dpi_scale_trans + ScaledTranslation(0, 0, corner)
    across, up = (inches, axes.transData) if which == "y" else (axes.transData, inches)
    for index, draw in enumerate(thumbnails):
        along, beside = (index - 0.46, 0.92), (-THUMBNAIL - 0.06, THUMBNAIL)
        (x, width), (y, height) = (beside, along) if which == "y" else (along, beside)
        inset = axes.inset_axes((x, y, width, height), transform=blended_transform_factory(across, up))
        inset.set_label("thumbnail")
        draw(inset)
        for text in inset.texts:
            text.set(fontsize=4, in_layout=False, clip_on=True)
        inset.set(xticks=[], yticks=[], xlabel="", ylabel="", title="")


def _block_axis(axes: "Axes", which: str, blocks: Sequence[tuple[int, int, str]], *, width: int = 32) -> None:
    axis: Any = axes.yaxis if which == "y" else axes.xaxis
    width = width if which == "y" else min(width, 26)
    # Names do not overlap: of very many, only some are written.
    step = -(-len(blocks) // 60)
    named = blocks[::step]
    axis.set_ticks([(start + stop - 1) / 2 for start, stop, _ in named])
    axis.set_ticklabels([label(name, width=width) for _, _, name in named], fontsize=8 if len(named) <= 30 else 6)
    axis.set_tick_params(length=0)
    if which == "x":
        longest = max(len(name) for _, _, name in named)
        if longest > 3:
            for text in axis.get_ticklabels():
                text.set(rotation=45, ha="right", rotation_mode="anchor")
    if any(stop - start > 1 for start, stop, _ in blocks):
        draw_line = axes.axhline if which == "y" else axes.axvline
        for start, _, _ in blocks[1:]:
            draw_line(start - 0.5, color="white", linewidth=0.8)


def _mark_best(axes: "Axes", scores: Tensor, relevant: Tensor) -> None:
    best = scores.argmax(dim=1).tolist()
    hit = [bool(relevant[row, column]) for row, column in enumerate(best)]
    for wanted, marker, colour, text in ((True, "o", "white", "best, right"), (False, "X", VERMILION, "best, wrong")):
        points = [(column, row) for row, column in enumerate(best) if hit[row] is wanted]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, marker=marker, s=34, color=colour, edgecolors="black", linewidths=0.8, label=text)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, fontsize=8, frameon=False, borderaxespad=0.2)
