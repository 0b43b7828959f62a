"""Letters that the default font lacks are drawn by another installed font; a warning where there is none."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from mmalign.pictures import fonts, save
from mmalign.pictures.figures import new_figure
from mmalign.pictures.fonts import DEFAULT, families_for

LETTERS = "分子"
NAME = "Mmalign Test Letters"


@pytest.fixture
def own_font(tmp_path: Path) -> Iterator[str]:
    """A font that has two Chinese letters, as filled squares, known to matplotlib for one test."""
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"uni{ord(letter):04X}" for letter in LETTERS)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"uni{ord(letter):04X}" for letter in LETTERS})
    pen = TTGlyphPen(None)
    for step, point in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": NAME, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    file = tmp_path / "letters.ttf"
    builder.save(file)
    known = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(str(file))
    clear()
    yield NAME
    font_manager.fontManager.ttflist[:] = known
    clear()


def clear() -> None:
    fonts._families_with.cache_clear()
    fonts._letters.cache_clear()


def test_a_font_with_the_letters_is_found_and_used(own_font: str, tmp_path: Path) -> None:
    assert families_for("a molecule") == [DEFAULT]
    assert families_for(f"a molecule, {LETTERS}") == [DEFAULT, own_font]
    figure = new_figure(3, 2)
    text, plain = figure.text(0.1, 0.5, f"CO {LETTERS}"), figure.text(0.1, 0.1, "CO")
    before = plain.get_fontfamily()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "figure.png")
        figure.draw_without_rendering()  # a missing glyph would be a warning, and here an error
    assert text.get_fontfamily() == [DEFAULT, own_font]
    assert plain.get_fontfamily() == before


def test_letters_without_a_font_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    clear()
    letter = "\U0001e900"  # Adlam; no font that programs install has it
    with caplog.at_level(logging.WARNING, logger="mmalign"):
        assert families_for(f"x {letter}") == families_for(f"y {letter}") == [DEFAULT]
    assert [record.getMessage().startswith(f"no installed font has the letter {letter} (U+1E900)") for record in
            caplog.records] == [True]  # fmt: skip
