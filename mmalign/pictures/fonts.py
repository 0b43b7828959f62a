"""Fonts for letters that the default font lacks, such as Chinese, Japanese, Korean and Indic scripts."""

import logging
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT = "DejaVu Sans"
_BOXES = "Last Resort"  # a font that covers everything with boxes
_MAX_FONTS = 2000
_FIRST = ("Noto Sans CJK", "Noto Sans", "Source Han Sans", "WenQuanYi", "IPA", "Arial Unicode")
_LOG = logging.getLogger("mmalign")


def families_for(text: str) -> list[str]:
    """Font families that have the letters of a text: the default font, then installed ones for letters that it lacks.

    A warning, once per set of letters, names an example where no installed font has some of them; these are drawn as
    boxes.

    Example:
        >>> families_for("carbon dioxide, CO₂")
        ['DejaVu Sans']
    """
    lacking = frozenset(letter for letter in text if not letter.isspace()) - _letters(DEFAULT)
    return [DEFAULT, *_families_with(lacking)] if lacking else [DEFAULT]


def use_fonts_with_all_letters(figure: "Figure") -> None:
    """Set the fonts of the texts in a figure that have letters which the default font lacks."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        families = families_for(text.get_text())
        if len(families) > 1:
            text.set_fontfamily(families)


@cache
def _families_with(letters: frozenset[str]) -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    names = {font.name for font in fontManager.ttflist} - {DEFAULT}
    left, families = set(letters), list[str]()
    for name in _preferred(names)[:_MAX_FONTS]:
        if not left:
            break
        if covered := left & _letters(name):
            families.append(name)
            left -= covered
    if left:
        _LOG.warning(
            "no installed font has the letter %s (U+%04X): it is drawn as a box; install a font that has it, such as "
            "Noto Sans CJK, and delete matplotlib's font cache (%s)",
            min(left), ord(min(left)), _cache_folder(),
        )  # fmt: skip
    return tuple(families)


def _preferred(names: Iterable[str]) -> list[str]:
    """Upright text fonts with many letters first, then the others by name."""

    def order(name: str) -> tuple[int, str]:
        return next((k for k, start in enumerate(_FIRST) if name.startswith(start)), len(_FIRST)), name

    return sorted((name for name in names if not name.startswith(_BOXES)), key=order)


@cache
def _letters(family: str) -> frozenset[str]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        file = findfont(FontProperties(family=family), fallback_to_default=False)
        return frozenset(map(chr, get_font(file).get_charmap()))
    except (RuntimeError, ValueError, OSError):  # a bitmap or damaged font
        return frozenset()


def _cache_folder() -> str:
    import matplotlib

    return matplotlib.get_cachedir()
