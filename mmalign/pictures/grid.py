"""Grid of queries and their highest-ranked results, drawn by the modalities."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmalign.errors import UserError
from mmalign.pictures.figures import BLUE, VERMILION, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[[Any, "Axes"], None]

MAX_CELLS = 400
ACROSS = 6
"""Results per line; further results continue on the next line."""


def retrieval_grid(
    queries: Sequence[Any],
    answers: Sequence[Sequence[Any]],
    *,
    scores: Tensor,
    relevant: Tensor | None,
    draw_query: Draw,
    draw_answer: Draw,
    names: Sequence[Sequence[str]] = (),
    title: str = "",
) -> "Figure":
    """Draw each query in a row, followed by its results in descending order of score.

    Args:
        queries: `n` decoded samples.
        answers: The first `k` results of each query, decoded.
        scores: `(n, k)`.
        relevant: `(n, k)`, True = relevant: blue frame with a tick; others have a dashed red frame with a cross.
            None = relevance unknown: thin frames without marks.
        draw_query: Draws a query on axes: its `Modality.picture`.
        draw_answer: Draws a result on axes.
        names: Names of each query's results, printed next to their scores.
        title: Title of the figure.

    Raises:
        UserError: no query, inconsistent shapes, or more than 400 cells.
    """
    n, k = scores.shape
    fits = len(queries) == n and all(len(row) == k for row in (*answers, *names)) and len(names) in (0, n)
    if not fits or (relevant is not None and relevant.shape != scores.shape) or not n * k:
        raise UserError(f"expected {n} queries with {k} results each, the shape of scores, and at least one of each")
    if n * (k + 1) > MAX_CELLS:
        raise UserError(f"expected at most {MAX_CELLS} cells, got {n} x {k + 1}")
    lines = -(-k // ACROSS)
    across = -(-k // lines)
    figure = new_figure(1.75 * (across + 1), 1.85 * n * lines + (0.5 if title else 0.1))
    grid = figure.add_gridspec(n * lines, across + 1)
    for row in range(n):
        axes = figure.add_subplot(grid[row * lines, 0])
        draw_query(queries[row], axes)
        _fit_texts(axes)
        _frame(axes, "query", colour="black", style="-", width=0.8)
        for rank in range(k):
            axes = figure.add_subplot(grid[row * lines + rank // across, 1 + rank % across])
            draw_answer(answers[row][rank], axes)
            _fit_texts(axes)
            head = f"{rank + 1}.  {float(scores[row, rank]):.2f}"
            if names:
                head = f"{head}\n{label(names[row][rank], width=20)}"
            if relevant is None:
                _frame(axes, head, colour="black", style="-", width=0.8)
            elif relevant[row, rank]:
                _frame(axes, f"{head}  ✓", colour=BLUE, style="-", width=2.2)
            else:
                _frame(axes, f"{head}  ✗", colour=VERMILION, style="--", width=2.2)
    if title:
        figure.suptitle(label(title, width=90), fontsize=11)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def _fit_texts(axes: "Axes") -> None:
    # Modalities draw for a full figure; in a cell, text is smaller and wrapped earlier.
    for text in axes.texts:
        text.set_text("\n".join(textwrap.wrap(text.get_text(), 20, max_lines=8, placeholder=" …")))
        text.set(fontsize=min(8.0, float(text.get_fontsize())), in_layout=False, clip_on=True)


def _frame(axes: "Axes", title: str, *, colour: str, style: str, width: float) -> None:
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
    axes.set_title(title, fontsize=8, color=colour, pad=3)
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linestyle=style, linewidth=width)
