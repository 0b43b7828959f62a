"""Files of mined negatives: what is read, what is refused."""

from pathlib import Path

import pytest

from mmalign.data.batching.negatives_file import COLUMNS, read_negatives, write_negatives
from mmalign.data.config import DataConfig
from mmalign.errors import UserError


@pytest.mark.parametrize("name", ["n.csv", "n.parquet"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    rows = [("a", "b", 0, 0.5, 0.9, None), ("a", "c", 3, 0.25, 0.9, None), ("b", "é,x", 1, -0.5, 0.75, 0.125)]
    write_negatives(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)), tmp_path / name)
    assert read_negatives(tmp_path / name, ["é,x", "c", "b", "a"], 3).tolist() == [
        [-1, -1, -1], [-1, -1, -1], [0, -1, -1], [2, 1, -1],
    ]  # fmt: skip
    assert read_negatives(tmp_path / name, ["a", "c", "b"], 1).tolist() == [[2], [-1], [-1]]  # others are ignored


def test_a_table_with_the_two_columns_suffices(tmp_path: Path) -> None:
    (tmp_path / "n.tsv").write_text("negative\tid\n1\t2\n2\t2\n2\t1\n")
    assert read_negatives(tmp_path / "n.tsv", ["1", "2"], 2).tolist() == [[1, -1], [0, -1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,rank\na,1\n", "expected the columns id and negative, as of mmalign mine, got id, rank"),
        ("id,negative\nx,y\n", "none of its 1 rows names two of the 2 training records"),
        ("id,negative\na,b,c\n", "n.csv:2"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "n.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_negatives(tmp_path / "n.csv", ["a", "b"], 2)


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.parquet or \.csv"):
        write_negatives({}, tmp_path / "n.json")
    with pytest.raises(UserError, match=r"--data\.neighbours: expected a file, or --data\.hard_negatives, got both"):
        DataConfig(neighbours="n.csv", hard_negatives="text")
