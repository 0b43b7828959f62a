"""A table as column names and rows of cells, and the text of its file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.errors import UserError


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        where: `names.tsv:17`.
        cells: Column -> value; a column that the row lacks is absent or None.
        problem: Why the row cannot be read, "" if it can.
    """

    where: str
    cells: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Table:
    """Column names, and the rows with the requested columns."""

    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[Row]]


def text_of(path: Path) -> str:
    """Content of a UTF-8 file; a byte that is no UTF-8 becomes a lone surrogate, so that only its row is rejected.

    Raises:
        UserError: the file is UTF-16.
    """
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: expected UTF-8, got UTF-16; save it as UTF-8")
    return data.decode("utf-8-sig", "surrogateescape")


def bad_byte(cell: str) -> str:
    """Why a cell of `text_of` is no text; "" if it is."""
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"expected UTF-8, got the byte 0x{ord(cell[error.start]) & 0xFF:02x} after {cell[: error.start][-20:]!r}"
    return ""
