"""Bounds of what a file may declare, checked before memory is reserved."""

from mmalign.errors import BadSample

MAX_BYTES = 1 << 28
"""Largest file that is opened."""

MAX_TEXT_BYTES = 1 << 26
"""Largest text file (OFF, OBJ, ASCII PLY, XYZ): about two million lines."""

MAX_ROWS = 1 << 23
"""Maximum number of vertices, triangles or points of a file; LAS is read in pieces and may hold more."""


def check_rows(rows: int, what: str, name: str) -> None:
    """Refuse a count that no file of this project has.

    Raises:
        BadSample: it is negative or above `MAX_ROWS`.
    """
    if not 0 <= rows <= MAX_ROWS:
        raise BadSample(name, f"at most {MAX_ROWS} {what}", str(rows))
