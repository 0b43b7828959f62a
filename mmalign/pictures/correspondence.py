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

MAX_WORDS = 6
"""Maximum number of words or phrases with a colour and a drawing."""

_WORDS_SHOWN = 400


class Attribution(NamedTuple):
    """Weights of one word (or phrase) of the query sample over the units of the drawn sample.

    Args:
        word: The word.
        mass: Fraction of the total mass that belongs to the word.
        weights: Distribution of the word's mass over the units of the drawn sample, `(units,)`.
        units: Indices of its units in the query sample.
        information: Its term of the mutual information of the two samples, in nats, see `attributions`.
    """

    word: str
    mass: float
    weights: Numbers
    units: tuple[int, ...]
    information: float


def attributions(
    weights: Tensor, drawn: TokenLabels, query: TokenLabels, *, parts: bool = False, most: int = MAX_WORDS
) -> list[Attribution]:
    """Select the words with the largest term of the mutual information.

    With P the joint distribution over words w and units u, words are ordered by their term of the mutual
    information,

        information_w = sum_u P_uw log(P_uw / (P_u P_w))

    so that a word whose mass follows the overall distribution comes last, however large its mass.

    Args:
        weights: `(entries of drawn, entries of query)`, non-negative, as returned by `Aligner.correspondence`.
        drawn: The units of the sample that is drawn, `members (units, entries)`.
        query: The units of the query sample.
        parts: Whether the entries of the query sample are parts, such as phrases: these are selected instead of words.
        most: Maximum number of words.

    Returns:
        Words in descending order; words without mass are omitted, and those of `query.minor` (stop words) if others
        have mass.

    Raises:
        UserError: inconsistent shapes, a negative, NaN or infinite weight, or no mass at all.

    Example:
        >>> import torch
        >>> atoms, words = TokenLabels(("C1", "O2"), np.eye(2)), TokenLabels(("methyl", "hydroxy"), np.eye(2))
        >>> [(one.word, one.mass, one.weights) for one in attributions(torch.eye(2) / 2, atoms, words)]
        [('methyl', 0.5, array([1., 0.])), ('hydroxy', 0.5, array([0., 1.]))]
    """
    table: Numbers = weights.detach().double().cpu().numpy()
    expected = drawn.members.shape[1], query.members.shape[1]
    if table.shape != expected:
        raise UserError(f"expected weights of {expected[0]} x {expected[1]}, one per pair of tokens, got {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any():
        raise UserError("expected weights of at least 0, got a negative one, NaN or infinity")
    groups = np.eye(table.shape[1]) if parts else query.members
    joint = drawn.members @ table @ groups.T  # (units, groups)
    total = float(joint.sum())
    if total <= 0:
        raise UserError("the token correspondence of the two samples is zero")
    joint = joint / total
    mass = joint.sum(0)
    independent = joint.sum(1, keepdims=True) * mass
    ratio = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    information = (joint * np.log(ratio)).sum(0)

    def order(group: int) -> tuple[float, float, int]:
        return -round(information[group], 9), -mass[group], group  # among equal terms the largest mass comes first

    def units_of(group: int) -> tuple[int, ...]:
        return tuple(np.flatnonzero(query.members[:, group] > 0).tolist()) if parts else (group,)

    present = np.flatnonzero(mass > 0).tolist()
    telling = [group for group in present if not (units_of(group) and query.minor.issuperset(units_of(group)))]
    chosen = []
    for group in sorted(telling or present, key=order)[:most]:
        units = units_of(group)
        word = " ".join(query.labels[unit] for unit in units) or f"part {group + 1}"
        weights_of_word = joint[:, group] / mass[group]
        chosen.append(Attribution(word, float(mass[group]), weights_of_word, units, float(information[group])))
    return chosen


def correspondence_figure(
    attributions: Sequence[Attribution],
    drawn: TokenLabels,
    query: TokenLabels,
    *,
    draw: Callable[["Axes", Numbers], None],
    draw_query: Callable[["Axes"], None] | None = None,
    towers: tuple[str, str] = ("", ""),
    title: str = "",
) -> "Figure":
    """Draw the query sample as words, some in colour, and the other sample once per coloured word.

    Args:
        attributions: The words, as the function `attributions` returns them.
        drawn: The units of the sample that is drawn.
        query: The units of the query sample.
        draw: Draws the sample on axes, with one weight per unit.
        draw_query: Draws the query sample where its labels are not words.
        towers: Towers of the drawn and of the query sample.
        title: Title of the figure.

    Raises:
        UserError: no word, or a weight is NaN or infinite.
    """
    if not attributions or not all(np.isfinite(one.weights).all() for one in attributions):
        raise UserError("expected at least one word, with finite weights")
    words = sorted(attributions[: len(COLOURS)], key=lambda one: one.units[:1])  # in the order of the sentence
    columns = min(3, len(words))
    rows = -(-len(words) // columns)
    figure = new_figure(3.9 + 2.7 * columns, max(2.9, 2.75 * rows) + 0.6)
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[3.7, *[2.7] * columns])
    axes: Any = figure.add_subplot(grid[:, 0])
    colours = {unit: COLOURS[index] for index, one in reversed(list(enumerate(words))) for unit in one.units}
    if query.spelled or draw_query is None:
        shown = list(query.labels[:_WORDS_SHOWN])
        draw_words(axes, shown, [colours.get(unit) for unit in range(len(shown))])
    else:
        draw_query(axes)
    axes.set_title(label(towers[1]), fontsize=10, loc="left")
    for index, one in enumerate(words):
        axes = figure.add_subplot(grid[index // columns, 1 + index % columns])
        draw(axes, one.weights)
        _head(axes, one, COLOURS[index], drawn)
    if title:
        figure.suptitle(label(title, width=110), fontsize=11)
    figure.supxlabel("Each drawing: distribution of its word's mass; full colour = the largest fraction.", fontsize=8)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def _head(axes: "Axes", one: Attribution, colour: str, drawn: TokenLabels) -> None:
    top = int(one.weights.argmax())
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], ylabel="")
    axes.set_title(f"{label(one.word, width=24)}  {one.mass:.1%}", fontsize=9, color="black", pad=5)
    axes.set_xlabel(f"largest: {label(drawn.labels[top], width=20)}: {one.weights[top]:.0%}", fontsize=8)
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.4)
