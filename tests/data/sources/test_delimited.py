"""Delimiters of .csv files: commas, semicolons, tabs, and the line `sep=`."""

from pathlib import Path

import pytest

from mmalign.data.sources.tables import read_table


def cells(path: Path, text: str, encoding: str = "utf-8") -> list[tuple[str, dict[str, str]]]:
    path.write_bytes(text.encode(encoding))
    table = read_table(path)
    return [(row.where, row.cells) for row in table.rows(table.columns)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_of_the_header(delimiter: str, newline: str, tmp_path: Path) -> None:
    quoted = f'"a dog{delimiter} or, a ""cat"""'
    text = newline.join([f"file{delimiter}text", f"1.png{delimiter}{quoted}", f"2.png{delimiter}x"])
    assert cells(tmp_path / "t.csv", text) == [
        ("t.csv:2", {"file": "1.png", "text": f'a dog{delimiter} or, a "cat"'}),
        ("t.csv:3", {"file": "2.png", "text": "x"}),
    ]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;\r", "\ufeffsep=;"])
def test_a_first_line_that_names_the_delimiter(first: str, tmp_path: Path) -> None:
    assert cells(tmp_path / "t.csv", f"{first}\nfile;a,b,c\n1.png;x\n\n2.png;y") == [
        ("t.csv:3", {"file": "1.png", "a,b,c": "x"}),
        ("t.csv:5", {"file": "2.png", "a,b,c": "y"}),
    ]


def test_delimiters_inside_quotes_do_not_count(tmp_path: Path) -> None:
    assert cells(tmp_path / "t.csv", 'file,"a;b;c"\n1.png,x\n') == [("t.csv:2", {"file": "1.png", "a;b;c": "x"})]


def test_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert cells(tmp_path / "t.csv", "text\na; b\n") == [("t.csv:2", {"text": "a; b"})]
