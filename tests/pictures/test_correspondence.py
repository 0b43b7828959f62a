"""What `explain` picks and draws, from tables whose answers are known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mmalign.capabilities import TokenLabels
from mmalign.errors import UserError
from mmalign.pictures import attributions, correspondence_figure, save
from mmalign.pictures.figures import COLOURS, MAX_PIXELS
from mmalign.pictures.words import draw_words, shade
from tests.pictures.test_pictures import assert_readable

ATOMS = TokenLabels(("C1", "C2", "O3"), np.eye(3))
WORDS = TokenLabels(("the", "methyl", "hydroxy", "group"), np.eye(4), spelled=True)


def test_words_are_ordered_by_information() -> None:
    table = torch.rand(3, 4, dtype=torch.float64)
    table[:, 0] = table[:, 1:].sum(1)  # goes where all mass goes: it says nothing
    found = attributions(table, ATOMS, WORDS)
    mass = (table / table.sum()).numpy()
    said = [
        math.fsum(mass[u, w] * math.log(mass[u, w] / (mass[u].sum() * mass[:, w].sum())) for u in range(3))
        for w in range(4)
    ]
    assert [one.word for one in found] == [WORDS.labels[w] for w in sorted(range(4), key=lambda w: -said[w])]
    assert found[-1].word == "the"
    for one in found:
        word = WORDS.labels.index(one.word)
        assert one.information == pytest.approx(said[word])
        assert one.mass == pytest.approx(mass[:, word].sum())
        np.testing.assert_allclose(one.weights, mass[:, word] / mass[:, word].sum())
        assert one.units == (word,)


def test_stop_words_are_listed_only_where_there_is_nothing_else() -> None:
    table = torch.eye(4, dtype=torch.float64)[:3]
    table[0, 3] = 1.0
    minor = TokenLabels(WORDS.labels, np.eye(4), minor=frozenset({0, 3}))
    assert [one.word for one in attributions(table, ATOMS, WORDS)] == ["methyl", "hydroxy", "the", "group"]
    assert [one.word for one in attributions(table, ATOMS, minor)] == ["methyl", "hydroxy"]
    all_minor = TokenLabels(WORDS.labels, np.eye(4), minor=frozenset(range(4)))
    assert len(attributions(table, ATOMS, all_minor)) == 4
    phrases = TokenLabels(WORDS.labels, np.array([[1.0, 0], [0, 0.5], [0, 0.5], [0, 0]]), minor=frozenset({0, 1}))
    assert [one.word for one in attributions(torch.ones(3, 2), ATOMS, phrases, parts=True)] == ["methyl hydroxy"]


def test_mass_of_pieces_and_motifs_reaches_words_and_atoms() -> None:
    """Three pieces, of which the first is a class token; two motifs, of which the second has two atoms."""
    words = TokenLabels(("hydro", "xy"), np.array([[0.0, 1.0, 0.5], [0.0, 0.0, 0.5]]))
    atoms = TokenLabels(("O1", "C2", "C3"), np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]]))
    table = torch.tensor([[5.0, 1.0, 0.0], [5.0, 0.0, 2.0]])
    found = {one.word: one for one in attributions(table, atoms, words)}
    # The class token's mass is nowhere to be seen: 1 + 2 is all there is.
    assert found["hydro"].mass == pytest.approx(2 / 3)
    np.testing.assert_allclose(found["hydro"].weights, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(found["xy"].weights, [0, 0.5, 0.5])


def test_a_phrase_is_one_attribution_of_several_words() -> None:
    phrases = TokenLabels(("a", "red", "disc"), np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]]))
    found = attributions(torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0]]), ATOMS, phrases, parts=True)
    assert [(one.word, one.units) for one in found] == [("a red", (0, 1)), ("disc", (2,))]


def test_uninformative_words_are_ordered_by_mass() -> None:
    one_atom = TokenLabels(("C1",), np.eye(1))
    found = attributions(torch.tensor([[0.1, 0.2, 0.6, 0.1]]), one_atom, WORDS, most=2)
    assert [one.word for one in found] == ["hydroxy", "methyl"]
    assert attributions(torch.ones(1, 1), one_atom, TokenLabels(("x",), np.eye(1)))[0].weights.tolist() == [1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_invalid_weights_are_errors(value: float) -> None:
    table = torch.ones(3, 4)
    table[1, 2] = value
    with pytest.raises(UserError, match="a negative one, NaN or infinity"):
        attributions(table, ATOMS, WORDS)


def test_tables_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"weights of 3 x 4.*got \(4, 3\)"):
        attributions(torch.ones(4, 3), ATOMS, WORDS)
    with pytest.raises(UserError, match="correspondence of the two samples is zero"):
        attributions(torch.zeros(3, 4), ATOMS, WORDS)
    with pytest.raises(UserError, match="at least one word"):
        correspondence_figure([], ATOMS, WORDS, draw=lambda axes, weights: None)


def bars(axes: Any, weights: np.ndarray) -> None:
    axes.bar(range(len(weights)), weights)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 6])
def test_one_drawing_a_word_framed_in_its_colour(most: int) -> None:
    table = torch.rand(3, 4)
    found = attributions(table, ATOMS, WORDS, most=most)
    drawn: list[np.ndarray] = []

    def draw(axes: Any, weights: np.ndarray) -> None:
        drawn.append(weights)
        bars(axes, weights)

    figure = correspondence_figure(found, ATOMS, WORDS, draw=draw, towers=("left", "$right$"), title="t $5")
    assert_readable(figure)
    words, *cells = figure.axes
    assert len(cells) == len(found) == min(most, 4)
    in_order = sorted(found, key=lambda one: one.units)
    for place, (cell, one, weights) in enumerate(zip(cells, in_order, drawn, strict=True)):
        assert cell.get_title() == f"{one.word}  {one.mass:.1%}"
        np.testing.assert_array_equal(weights, one.weights)
        assert cell.get_xlabel() == f"largest: {ATOMS.labels[one.weights.argmax()]}: {one.weights.max():.0%}"
        frame = cell.spines["left"].get_edgecolor()[:3]
        grounds = [p.get_facecolor()[:3] for p in words.patches if type(p).__name__ == "FancyBboxPatch"]
        np.testing.assert_allclose(frame, [int(COLOURS[place][i : i + 2], 16) / 255 for i in (1, 3, 5)], atol=1e-6)
        assert any(np.allclose(ground, frame) for ground in grounds)
    assert len(grounds) == len(found)


def test_a_sample_that_is_not_spelled_is_drawn_itself() -> None:
    asked: list[Any] = []
    units = TokenLabels(("row 1", "row 2", "row 3", "row 4"), np.eye(4))
    found = attributions(torch.rand(3, 4), ATOMS, units)
    correspondence_figure(found, ATOMS, units, draw=bars, draw_query=asked.append)
    assert len(asked) == 1


def test_hostile_words_stay_on_a_bounded_page(tmp_path: Path) -> None:
    labels = ["$x^2_", "\\frac{", "犬の写真", "नमस्ते", "a" * 5000, "\x07", *["word"] * 5000]
    many = TokenLabels(labels, np.eye(len(labels)), spelled=True)
    table = torch.zeros(3, len(labels))
    table[0, 4] = table[1, 2] = table[2, 0] = 1.0
    figure = correspondence_figure(attributions(table, ATOMS, many), ATOMS, many, draw=bars, title="x" * 1000)
    assert len(figure.axes[0].patches) < 500
    for ending in (".png", ".svg", ".pdf"):
        file = save(figure, tmp_path / f"a{ending}", dpi=60)
        assert 2_000 < file.stat().st_size < 5_000_000
    with Image.open(tmp_path / "a.png") as picture:
        assert max(picture.size) < MAX_PIXELS


def test_words_keep_within_the_page_and_apart() -> None:
    axes = Figure(figsize=(4, 4)).subplots()
    words = ["one", "two", "x" * 100, "three"] * 30
    draw_words(axes, words, ["#0072B2"] * len(words), width=12.0, lines=9)
    boxes = [p.get_path().get_extents(p.get_patch_transform()) for p in axes.patches]
    boxes = [b for p, b in zip(axes.patches, boxes, strict=True) if type(p).__name__ == "FancyBboxPatch"]
    assert max(box.x1 for box in boxes) <= 12.0 + 0.2
    assert min(box.y0 for box in boxes) > -9 * 1.6
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            same_line = abs(one.y0 - other.y0) < 0.1
            assert not same_line or one.x1 <= other.x0 + 0.3 or other.x1 <= one.x0 + 0.3
    with pytest.raises(UserError, match="one background per word, got 1 for 2"):
        draw_words(axes, ["a", "b"], [None])
    assert shade(0.5, "#000000") == "#808080"
    assert shade(7.0, "#000000") == "#000000"
