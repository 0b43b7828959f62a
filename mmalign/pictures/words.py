"""Draw words on axes, each on a coloured background; the layout does not depend on the size of the axes."""

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from mmalign.errors import UserError
from mmalign.pictures.fonts import families_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

_LINE, _SPACE, _PAD = 1.55, 0.38, 0.14  # in units of the letters' size
_LONGEST = 200
"""Maximum number of letters of a word; longer words are truncated."""


def draw_words(
    axes: "Axes", words: Sequence[str], grounds: Sequence[str | None], *, width: float = 17.0, lines: int = 24
) -> None:
    """Write words in lines, from the top left.

    Args:
        axes: Axes to draw on; ticks and frame are removed.
        words: In reading order.
        grounds: Background colour of each word; None = no background.
        width: Width of the axes in units of the font size; a line holds about twice as many characters.
        lines: Maximum number of lines; the remaining words are replaced by an ellipsis.

    Raises:
        UserError: the number of backgrounds differs from the number of words.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> draw_words(axes, ["a", "red", "disc"], [None, "#D55E00", None])
        >>> len(axes.patches)  # three words and a ground
        4
    """
    from matplotlib.patches import FancyBboxPatch, PathPatch

    if len(words) != len(grounds):
        raise UserError(f"expected one background per word, got {len(grounds)} for {len(words)} words")
    x = y = 0.0
    for piece, ground, joined in _pieces(words, grounds, int(1.5 * width)):
        path, advance = _shape(piece)
        x -= _SPACE if joined else 0.0
        if x > 0 and x + advance > width:
            x, y = 0.0, y - _LINE
        if y <= -_LINE * lines:
            axes.add_patch(PathPatch(_moved(_shape("…")[0], x, y), facecolor="black", linewidth=0))
            break
        if ground is not None:
            style = f"round,pad={_PAD}"
            axes.add_patch(FancyBboxPatch((x, y - 0.22), advance, 1.0, boxstyle=style, facecolor=ground, linewidth=0))
        ink = "white" if ground is not None and _dark(ground) else "black"
        axes.add_patch(PathPatch(_moved(path, x, y), facecolor=ink, linewidth=0))
        x += advance + _SPACE
    axes.set_aspect("equal", anchor="NW")
    axes.set(xlim=(-0.3, width + 0.3), ylim=(y - 0.6, 1.1), xticks=[], yticks=[])
    axes.set_axis_off()


def shade(share: float, colour: str) -> str:
    """Interpolate between white (0) and `colour` (1); returns a hexadecimal colour.

    Example:
        >>> shade(0.0, "#D55E00"), shade(1.0, "#D55E00")
        ('#ffffff', '#d55e00')
    """
    share = min(max(share, 0.0), 1.0)
    return "#" + "".join(f"{round(255 + share * (channel - 255)):02x}" for channel in _channels(colour))


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def _dark(colour: str) -> bool:
    red, green, blue = _channels(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _pieces(
    words: Sequence[str], grounds: Sequence[str | None], longest: int
) -> Iterator[tuple[str, str | None, bool]]:
    """Split words longer than a line; yields piece, background, and whether it continues the last one."""
    for word, ground in zip(words, grounds, strict=True):
        for start in range(0, min(len(word), _LONGEST), longest):
            yield word[start : min(start + longest, _LONGEST)], ground, start > 0


@lru_cache(maxsize=4096)
def _shape(word: str) -> tuple["TextPath", float]:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that no font has is a box
        font = FontProperties(family=families_for(word))
        path = TextPath((0, 0), word.replace("$", r"\$"), size=1, prop=font)  # a dollar sign would start math mode
    return path, float(path.get_extents().x1) if len(path.vertices) else _SPACE


def _moved(path: "TextPath", x: float, y: float) -> "Path":
    from matplotlib.transforms import Affine2D

    return path.transformed(Affine2D().translate(x, y))
