"""CSV and TSV: rows of text cells, by the delimiter that the header has. An unreadable row does not affect others."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from mmalign.data.sources.rows import Row, Table, bad_byte, text_of
from mmalign.errors import UserError

DELIMITERS = ",;\t"
"""Of a .csv file: spreadsheets write semicolons where the decimal sign is a comma."""

_SEP = re.compile(r'"?sep=(.)"?\r?', re.IGNORECASE)


def read_csv(path: Path) -> Table:
    """A CSV table; the delimiter is the one named by a first line `sep=;`, or the most frequent one of the header."""

    def lines() -> Iterator[tuple[int, list[str], str]]:
        text = text_of(path)
        first, _, rest = text.partition("\n")
        named = _SEP.fullmatch(first)
        skipped = 1 if named else 0
        delimiter = named.group(1) if named else delimiter_of(first)
        reader = csv.reader(io.StringIO(rest if named else text, newline=""), delimiter=delimiter, strict=True)
        for start in count():
            line = reader.line_num + 1 + skipped
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error):  # it consumed all following rows
                    raise UserError(f"{path.name}:{line}: a quote that is opened there is never closed") from error
                if start == 0:
                    raise UserError(f"{path.name}:{line}: {error}") from error
                yield line, [], f"expected a CSV row, got one with an error: {error}"
                continue
            if cells:
                yield line, cells, ""

    return _delimited(path, lines)


def read_tsv(path: Path) -> Table:
    """A TSV table. TSV as registered (text/tab-separated-values) has no quotes; a cell that is quoted is unquoted."""

    def lines() -> Iterator[tuple[int, list[str], str]]:
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if line.strip("\r"):
                yield number, [_unquoted(cell) for cell in line.rstrip("\r").split("\t")], ""

    return _delimited(path, lines)


def delimiter_of(header: str) -> str:
    r"""The delimiter that is most frequent in a header, outside quotes; a comma among equals.

    Example:
        >>> [delimiter_of(header) for header in ("file,text", "file;text, long", 'a,"b;c;d"', "file\ttext")]
        [',', ',', ',', '\t']
    """
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=bare.count)


def _unquoted(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', ""):
        return cell[1:-1].replace('""', '"')
    return cell


def _delimited(path: Path, lines: Callable[[], Iterator[tuple[int, list[str], str]]]) -> Table:
    at, header, _ = next(lines(), (0, [], ""))
    if not any(header):
        raise UserError(f"{path}: expected a header line with the names of the columns, got an empty file")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{path}: the column {twice[0]!r} occurs twice; rename one")
    for problem in filter(None, map(bad_byte, header)):
        raise UserError(f"{path.name}:{at}: {problem}; save it as UTF-8")

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        indices = [(name, header.index(name)) for name in wanted]
        content = lines()
        next(content)
        for number, cells, problem in content:
            where = f"{path.name}:{number}"
            if not problem and len(cells) != len(header):
                problem = f"expected {len(header)} cells as the header has, got {len(cells)}"
            values = {} if problem else {name: cells[index] for name, index in indices}
            problem = problem or next(filter(None, map(bad_byte, values.values())), "")
            yield Row(where, {} if problem else values, problem)

    return Table(header, rows)
