"""What every picture shares: a figure without pyplot, plain labels, a bounded save."""

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mmalign.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
MAX_PIXELS = 8000  # a side
# Okabe and Ito 2008: told apart with any colour vision.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9", "#000000")


def new_figure(width: float, height: float) -> "Figure":
    """A figure of this size in inches, with a canvas of its own, laid out without overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def label(text: object, *, width: int = 32, lines: int = 1) -> str:
    """Any text as a label: one paragraph, at most `lines` lines of `width`, a dollar sign meaning a dollar sign.

    Example:
        >>> label("a very long caption of a picture", width=16)
        'a very long …'
    """
    whole = " ".join(str(text).split())
    wrapped = textwrap.wrap(whole, width, max_lines=lines, placeholder=" …", break_long_words=True)
    return "\n".join(wrapped).replace("$", r"\$")


def known_format(path: Path | str) -> Path:
    """The path, if its ending names a format of `save`.

    Raises:
        UserError: it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    return path


def save(figure: "Figure", path: Path | str, *, dpi: int = 200) -> Path:
    """Write a figure as PNG, PDF or SVG, by the name's ending; no side gets more than 8,000 pixels.

    Raises:
        UserError: another ending, or dpi outside 50 to 600.
    """
    path = known_format(path)
    if not 50 <= dpi <= 600:
        raise UserError(f"dpi: expected 50 to 600, got {dpi}")
    path.parent.mkdir(parents=True, exist_ok=True)
    bounded = min(float(dpi), MAX_PIXELS / max(figure.get_size_inches()))
    with warnings.catch_warnings():
        # A script that the font lacks is drawn as boxes: no reason to stop or to warn at every letter.
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        figure.savefig(path, dpi=bounded)
    return path
