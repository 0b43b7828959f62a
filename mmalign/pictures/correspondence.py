"""Figure of the correspondence between two samples: coloured words, and the other sample drawn once per word."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmalign.capabilities import TokenLabels
from mmalign.errors import UserError
from mmalign.pictures.figures import COLOURS, label, new_figure
from mmalign.pictures.words import draw_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.float64]

MOST = 6
"""Maximum number of words or phrases with a colour and a drawing."""

_WORDS_SHOWN = 400


class Answer(NamedTuple):
    """Attribution of one word (or phrase) of the query sample.

    Args:
        name: The word.
        share: Fraction of the total mass that belongs to the word.
        weights: Distribution of the word's mass over the units of the drawn sample, `(units,)`.
        units: Indices of its units in the query sample.
        said: Its term of the mutual information of the two samples, in nats, see `answers`.
    """

    name: str
    share: float
    weights: Numbers
    units: tuple[int, ...]
    said: float


def answers(
    weights: Tensor, drawn: TokenLabels, asking: TokenLabels, *, parts: bool = False, most: int = MOST
) -> list[Answer]:
    """Select the words with the largest term of the mutual information.

    With P the joint distribution over words w and units u, words are ordered by their term of the mutual
    information,

        said_w = sum_u P_uw log(P_uw / (P_u P_w))

    so that a word whose mass follows the overall distribution comes last, however large its mass.

    Args:
        weights: `(entries of drawn, entries of asking)`, non-negative, as returned by `Aligner.correspondence`.
        drawn: The units of the sample that is drawn, `members (units, entries)`.
        asking: The units of the query sample.
        parts: Whether the entries of the query sample are parts, such as phrases: these are selected instead of words.
        most: Maximum number of words.

    Returns:
        Words in descending order; words without mass are omitted.

    Raises:
        UserError: inconsistent shapes, a negative, NaN or infinite weight, or no mass at all.

    Example:
        >>> import torch
        >>> atoms, words = TokenLabels(("C1", "O2"), np.eye(2)), TokenLabels(("methyl", "hydroxy"), np.eye(2))
        >>> [(one.name, one.share, one.weights) for one in answers(torch.eye(2) / 2, atoms, words)]
        [('methyl', 0.5, array([1., 0.])), ('hydroxy', 0.5, array([0., 1.]))]
    """
    table: Numbers = weights.detach().double().cpu().numpy()
    expected = drawn.members.shape[1], asking.members.shape[1]
    if table.shape != expected:
        raise UserError(f"expected weights of {expected[0]} x {expected[1]}, one per pair of tokens, got {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any():
        raise UserError("expected weights of at least 0, got a negative one, NaN or infinity")
    groups = np.eye(table.shape[1]) if parts else asking.members
    mass = drawn.members @ table @ groups.T  # (units, groups)
    total = float(mass.sum())
    if total <= 0:
        raise UserError("the token correspondence of the two samples is zero")
    mass = mass / total
    even = mass.sum(1, keepdims=True) * mass.sum(0, keepdims=True)
    ratio = np.divide(mass, even, out=np.ones_like(mass), where=mass > 0)
    said, share = (mass * np.log(ratio)).sum(0), mass.sum(0)
    found = []
    # Ties are ordered by mass, largest first.
    for group in sorted(np.flatnonzero(share > 0).tolist(), key=lambda g: (-round(said[g], 9), -share[g], g))[:most]:
        units = tuple(np.flatnonzero(asking.members[:, group] > 0).tolist()) if parts else (group,)
        name = " ".join(asking.labels[unit] for unit in units) or f"part {group + 1}"
        found.append(Answer(name, float(share[group]), mass[:, group] / share[group], units, float(said[group])))
    return found


def correspondence_figure(
    found: Sequence[Answer],
    drawn: TokenLabels,
    asking: TokenLabels,
    *,
    draw: Callable[["Axes", Numbers], None],
    draw_asking: Callable[["Axes"], None] | None = None,
    sides: tuple[str, str] = ("", ""),
    title: str = "",
) -> "Figure":
    """Draw the query sample as words, some in colour, and the other sample once per coloured word.

    Args:
        found: Output of `answers`.
        drawn: The units of the sample that is drawn.
        asking: The units of the query sample.
        draw: Draws the sample on axes, with one weight per unit.
        draw_asking: Draws the query sample where its labels are not words.
        sides: Names of the drawn and the query sample.
        title: Title of the figure.

    Raises:
        UserError: no word, or a weight is NaN or infinite.
    """
    if not found or not all(np.isfinite(one.weights).all() for one in found):
        raise UserError("expected at least one word, with finite weights")
    found = sorted(found[: len(COLOURS)], key=lambda one: one.units[:1])  # as they are read
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = new_figure(3.9 + 2.7 * columns, max(2.9, 2.75 * rows) + 0.6)
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[3.7, *[2.7] * columns])
    axes: Any = figure.add_subplot(grid[:, 0])
    colours = {unit: COLOURS[place] for place, one in reversed(list(enumerate(found))) for unit in one.units}
    if asking.spelled or draw_asking is None:
        shown = list(asking.labels[:_WORDS_SHOWN])
        draw_words(axes, shown, [colours.get(unit) for unit in range(len(shown))])
    else:
        draw_asking(axes)
    axes.set_title(label(sides[1]), fontsize=10, loc="left")
    for place, one in enumerate(found):
        axes = figure.add_subplot(grid[place // columns, 1 + place % columns])
        draw(axes, one.weights)
        _head(axes, one, COLOURS[place], drawn)
    if title:
        figure.suptitle(label(title, width=110), fontsize=11)
    figure.supxlabel("Each drawing: distribution of its word's mass; full colour = the largest fraction.", fontsize=8)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def _head(axes: "Axes", one: Answer, colour: str, drawn: TokenLabels) -> None:
    top = int(one.weights.argmax())
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], ylabel="")
    axes.set_title(f"{label(one.name, width=24)}  {one.share:.1%}", fontsize=9, color="black", pad=5)
    axes.set_xlabel(f"most to {label(drawn.labels[top], width=20)}: {one.weights[top]:.0%}", fontsize=8)
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.4)
