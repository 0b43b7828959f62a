"""Building blocks of a report; the template renders each kind, and escapes every string."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a command or a recipe."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        head: Names of the columns.
        rows: Cells as strings; the first column is a heading of its row.
        title: Title above the table.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI.

    Args:
        source: `data:image/...`.
        alt: What the figure shows, in one sentence, for readers without it.
        caption: Below the figure.
        width: Width in pixels on a wide screen.
    """

    source: str
    alt: str
    caption: str = ""
    width: int = 600
    kind: str = "picture"


@dataclass(frozen=True)
class Word:
    """A word and its weight in [0, 1]."""

    text: str
    weight: float


@dataclass(frozen=True)
class Cell:
    """A sample of a gallery: a thumbnail, a text, or weighted words.

    Args:
        source: Data URI of the thumbnail; "" = a text.
        text: The text; for a thumbnail, what it shows.
        words: The words of the text with their weights.
        title: Above the sample, such as its rank.
        caption: Below the sample, such as its score.
        mark: `right`, `wrong`, `query` or "".
    """

    source: str = ""
    text: str = ""
    words: Sequence[Word] = ()
    title: str = ""
    caption: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Gallery:
    """Rows of samples.

    Args:
        rows: Cells of each row.
        title: Title above the gallery.
        note: What the marks and numbers mean.
        compact: Several rows stand beside each other where there is room.
    """

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    compact: bool = False
    kind: str = "gallery"


Block = Text | Code | Table | Picture | Gallery


@dataclass(frozen=True)
class Page:
    """A section of the report.

    Args:
        name: Its name for `--pages`, and its anchor.
        title: Its heading.
        blocks: Its content.
    """

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def number(value: Any, digits: int = 3) -> str:
    """A number as the report prints it.

    Example:
        >>> number(0.12345), number(12), number(1438), number(None)
        ('0.123', '12', '1,438', '')
    """
    if value is None or value != value:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def interval(edges: Sequence[float], digits: int = 3) -> str:
    """An interval as the report prints it; "" if there is none."""
    return f"[{edges[0]:.{digits}f}, {edges[1]:.{digits}f}]" if len(edges) == 2 else ""
