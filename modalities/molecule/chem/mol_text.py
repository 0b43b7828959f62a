"""The text of MOL and SDF files: decoding, the record's block, and what is wrong with a block that rdkit refuses."""

import re

from mmalign.errors import BadSample

MAX_BYTES = 1 << 26
"""Maximum size of a file of one molecule, its properties included."""

_END = re.compile(r"^M  END", re.MULTILINE)
_SEPARATOR = re.compile(r"^\$\$\$\$.*$", re.MULTILINE)
_STARTS = ("M  ", "A  ", "V  ", "G  ", "S  ")  # of lines after the bonds


def text_of(data: bytes, where: str) -> str:
    r"""Decode a file as UTF-8; one with `M  END` that is not UTF-8 is Latin-1, in which older programs write names.

    Raises:
        BadSample: it is no text.

    Example:
        >>> text_of(b"Wei\xdf\n\n\nM  END\n", "a.mol")[:4]
        'Weiß'
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("latin-1")
        if not _END.search(text):
            raise BadSample(
                where, "a SMILES, or a MOL or SDF file", f"bytes that are no text ({error.reason})"
            ) from error
        return text


def only_block(text: str, where: str) -> str:
    """The block of the only record of an SDF, without its properties.

    Raises:
        BadSample: there are several records.
    """
    first, *others = _SEPARATOR.split(text.replace("\r\n", "\n"))
    if any(other.strip() for other in others):
        raise BadSample(
            where, "one molecule", "several; such a file is a table: --data.manifest FILE.sdf with a row for each"
        )
    return block_of(first)


def block_of(record: str) -> str:
    """A record up to `M  END`; all of it where that line is missing."""
    end = _END.search(record)
    return record if end is None else f"{record[: end.start()]}M  END\n"


def block_problem(text: str) -> str:
    r"""The first line of a V2000 block that is not what the counts line promises.

    Example:
        >>> block_problem("\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\nhello\nM  END\n")
        "line 5, which is no atom: 'hello'"
    """
    lines = text.splitlines()
    counts = re.match(r"([ \d]{3})([ \d]{3})", lines[3]) if len(lines) > 3 else None
    if counts is None or not counts[1].strip() or not counts[2].strip():
        shown = f": {lines[3][:40]!r}" if len(lines) > 3 else ""
        return f"a text whose fourth line is no counts line{shown}"
    if "V3000" in lines[3]:
        return "a V3000 block that it refuses" if _END.search(text) else "a block without the line M  END"
    try:
        atoms, bonds = int(counts[1]), int(counts[2])
    except ValueError:
        return f"a text whose fourth line is no counts line: {lines[3][:40]!r}"
    for number, line in enumerate(lines[4:], start=5):
        index = number - 5
        if index < atoms:
            good, kind = bool(re.match(r"\s*[-\d.]+\s*[-\d.]+\s*[-\d.]+\s*[A-Za-z*#]", line)), "atom"
        elif index < atoms + bonds:
            good, kind = bool(re.match(r"[ \d]{3}[ \d]{3}[ \d]{1,3}", line)), "bond"
        else:
            good, kind = line.startswith(_STARTS), "property"
        if not good:
            return f"line {number}, which is no {kind}: {line[:40]!r}"
        if line.startswith("M  END"):
            return "a block that it refuses"
    return "a block without the line M  END"
