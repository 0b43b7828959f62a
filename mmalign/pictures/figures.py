"""Shared functions of all figures: creation without pyplot, escaped labels, saving with a size limit."""

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mmalign.errors import UserError
from mmalign.pictures.distinct import shorten
from mmalign.pictures.fonts import use_fonts_with_all_letters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
MAX_PIXELS = 8000  # a side
# Okabe and Ito 2008: distinguishable with any colour vision.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9", "#000000")


def new_figure(width: float, height: float) -> "Figure":
    """Create a figure of this size in inches, with its own canvas and a constrained layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def label(text: object, *, width: int = 32, lines: int = 1) -> str:
    """Format text as a label: one paragraph, at most `lines` lines of `width` characters, dollar signs escaped.

    Example:
        >>> label("a very long caption of a picture", width=16)
        'a very long …'
        >>> label("CC(=O)OC1=CC=CC=C1C(=O)O", width=16)
        'CC(=O)O…C1C(=O)O'
    """
    whole = " ".join(str(text).split())
    if lines == 1 and len(whole) > width and " " not in whole[:width]:  # a long word: its beginning and its end
        whole = shorten(whole, width)
    wrapped = textwrap.wrap(whole, width, max_lines=lines, placeholder=" …", break_long_words=True)
    return "\n".join(wrapped).replace("$", r"\$")


def known_format(path: Path | str) -> Path:
    """Return the path if `save` supports its suffix.

    Raises:
        UserError: the suffix is not supported.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    return path


def save(figure: "Figure", path: Path | str, *, dpi: int = 200) -> Path:
    """Save a figure as PNG, PDF or SVG, by its suffix, with at most 8,000 pixels per dimension.

    Raises:
        UserError: the suffix is not supported, or dpi is outside 50 to 600.
    """
    path = known_format(path)
    if not 50 <= dpi <= 600:
        raise UserError(f"dpi: expected 50 to 600, got {dpi}")
    path.parent.mkdir(parents=True, exist_ok=True)
    use_fonts_with_all_letters(figure)
    bounded = min(float(dpi), MAX_PIXELS / max(figure.get_size_inches()))
    with warnings.catch_warnings():
        # Glyphs missing from the font are drawn as boxes, without a warning per letter.
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        figure.savefig(path, dpi=bounded)
    return path
