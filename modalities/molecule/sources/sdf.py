"""SDF files as tables: a row for each molecule, its properties as columns."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmalign.data.sources.rows import Row, Table
from mmalign.errors import UserError
from modalities.molecule.chem.mol_text import block_of
from modalities.molecule.sample import MAX_TEXT

MAX_BYTES = 1 << 31
"""Maximum size of a file: 2 GB."""

MOLECULE, NAME, ID = "molecule", "name", "id"
"""Columns of every SDF: the MOL block, its title line, and, where titles are unique, the row's id."""

RECORD_TEXTS = 40
"""Maximum size of a record, its properties included, in units of `MAX_TEXT`."""

_PROPERTY = re.compile(r"^>[^<\n]*<([^>\n]+)>.*$", re.MULTILINE)


def read_sdf(path: Path) -> Table:
    r"""Open an SDF file as a table.

    Columns: `molecule` (the MOL block), `name` (the title line; also `id` if every molecule has another title), and one
    for each property. Molecules are not decoded here: one that rdkit refuses is rejected like any other sample.

    Raises:
        UserError: the file is too large, or has no molecule.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "one.sdf"
        >>> _ = file.write_text("water\n\n\nM  END\n>  <LOGP>\n-1.38\n\n$$$$\n")
        >>> table = read_sdf(file)
        >>> table.columns, next(table.rows(["name", "LOGP"])).cells
        (['molecule', 'name', 'id', 'LOGP'], {'name': 'water', 'LOGP': '-1.38'})
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{path}: expected at most {MAX_BYTES >> 20} MB, got {size} bytes; divide it into several")
    rows = [_row(path, number, text) for number, text in _records(path)]
    if not rows:
        raise UserError(f"{path}: expected an SDF with molecules, got none")
    properties = list(dict.fromkeys(name for row in rows for name in row.cells if name not in (MOLECULE, NAME)))
    names = Counter(row.cells.get(NAME) for row in rows if not row.problem)
    unique = None not in names and max(names.values(), default=0) == 1
    if unique and ID not in properties:
        for row in rows:
            row.cells[ID] = row.cells.get(NAME)
        properties.insert(0, ID)

    def chosen(wanted: Sequence[str]) -> Iterator[Row]:
        for row in rows:
            yield Row(row.where, {name: row.cells.get(name) for name in wanted}, row.problem)

    return Table([MOLECULE, NAME, *properties], chosen)


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each record and the line where it begins."""
    line, start, record = 1, 1, bytearray()
    with path.open("rb") as file:
        while text := file.readline(MAX_TEXT + 1):
            if text.startswith(b"$$$$"):
                yield start, bytes(record)
                record, start = bytearray(), line + 1
            elif len(record) <= RECORD_TEXTS * MAX_TEXT:  # of a longer one, only that it is too long is kept
                record += text
            line += text.endswith(b"\n")
    if record.strip():
        yield start, bytes(record)


def _row(path: Path, line: int, data: bytes) -> Row:
    where = f"{path.name}:{line}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # older programs write names and comments in it
    text = text.replace("\r\n", "\n")
    if len(data) > RECORD_TEXTS * MAX_TEXT or len(block_of(text)) > MAX_TEXT:
        return Row(where, {}, f"expected a molecule of at most {MAX_TEXT} bytes, got more")
    block, _, rest = text.partition("M  END")
    if not rest and "M  END" not in text:
        return Row(where, {}, "expected a MOL block that ends in `M  END`, got none")
    cells: dict[str, Any] = {MOLECULE: f"{block}M  END\n", NAME: text.split("\n", 1)[0].strip() or None}
    for match, value in _properties(rest):
        if match in (MOLECULE, NAME):
            match = f"{match}_property"
        cells[match] = value or None
    return Row(where, cells)


def _properties(text: str) -> Iterator[tuple[str, str]]:
    """`> <NAME>`, then lines up to an empty one."""
    headers = list(_PROPERTY.finditer(text))
    ends = [*(match.start() for match in headers), len(text)][1:]
    for match, end in zip(headers, ends, strict=True):
        yield match[1].strip(), text[match.end() : end].strip("\n").split("\n\n")[0].strip()
