"""Tables as files: each format and precision is read as it was written; metadata that do not fit are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.testing import assert_close

from mmalign.embedding.stored_vectors import PRECISIONS, StoredVectors
from mmalign.embedding.table import EmbeddingTable
from mmalign.errors import UserError


@pytest.fixture
def table() -> EmbeddingTable:
    ids = ["a", "a", "b", "c"]
    labels = [("x",), ("x",), (), ("y", "z")]
    columns = (ids, [0, 1, 0, 0], ids, ["one", None, "three", ""], labels)
    vectors = StoredVectors.of(torch.randn(4, 11))
    known = [1.0, 2.0, 3.0, 0.5]
    return EmbeddingTable(*columns, vectors, "words", bundle="abc", uncertainties=known, full_size=64)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_round_trip(table: EmbeddingTable, tmp_path: Path, name: str, precision: str) -> None:
    table = table.at(precision)
    table.write(tmp_path / name)
    read = EmbeddingTable.read(tmp_path / name)
    for column in ("ids", "alternatives", "locations", "values", "labels", "uncertainties"):
        assert list(getattr(read, column)) == list(getattr(table, column))
        assert getattr(read, column) == getattr(table, column)
    assert (read.tower, read.bundle, read.full_size, len(read)) == ("words", "abc", 64, 4)
    assert (read.vectors.precision, read.vectors.dim) == (precision, 11)
    assert torch.equal(read.vectors.codes, table.vectors.codes)
    assert_close(read.embedding.vector, table.vectors.decode(), rtol=0, atol=0)
    assert read.fingerprint == table.fingerprint
    assert replace(read, hash="").fingerprint == table.fingerprint
    assert read.ids[1:3] == ["a", "b"]


def test_a_fingerprint_depends_on_vectors_and_ids(table: EmbeddingTable) -> None:
    others = [table.at("int8"), replace(table, ids=["a", "a", "b", "d"]), replace(table, ids=["aa", "", "b", "c"])]
    others += [replace(table, vectors=StoredVectors.of(table.vectors.decode() + 1))]
    assert len({one.fingerprint for one in (table, *others)}) == 5


def test_an_arrow_file_is_mapped(table: EmbeddingTable, tmp_path: Path) -> None:
    """The vectors lie in the file: what changes there changes here."""
    table.write(tmp_path / "t.arrow")
    read = EmbeddingTable.read(tmp_path / "t.arrow")
    content = (tmp_path / "t.arrow").read_bytes()
    at = content.index(table.vectors.codes.numpy().tobytes())
    with (tmp_path / "t.arrow").open("r+b") as file:
        file.seek(at)
        file.write(torch.tensor([7.0]).numpy().tobytes())
    assert read.vectors.decode()[0, 0] == 7.0


BINARY = {"precision": "binary", "dim": 3, "center": [0.0] * 3, "step": [1.0] * 3}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{", "expected precision, dim, center and step"),
        ("[]", "expected precision, dim, center and step"),
        (BINARY | {"center": "abc"}, "expected precision, dim, center and step"),
        (BINARY | {"precision": "float8"}, "expected codes of int8 or binary"),
        (BINARY | {"precision": "int8"}, "expected codes of int8 or binary"),
        (BINARY | {"precision": [1]}, "expected codes of int8 or binary"),
        (BINARY | {"dim": 9}, "expected codes of int8 or binary"),
        (BINARY | {"dim": "3"}, "expected codes of int8 or binary"),
        (BINARY | {"dim": 4}, "expected codes of int8 or binary"),
        (BINARY | {"step": [1.0]}, "as many steps as centers"),
        (BINARY | {"step": [1.0, float("nan"), 1.0]}, "expected finite vectors"),
        (None, "of floating-point numbers"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(tmp_path: Path, stated: Any, message: str) -> None:
    columns = {
        "id": ["a"],
        "tower": ["left"],
        "alternative": [0],
        "location": ["t:1"],
        "value": ["x"],
        "label": [["l"]],
    }
    made = pa.table(columns | {"vector": pa.array([[160]], pa.large_list(pa.uint8()))})
    text = stated if isinstance(stated, str | None) else json.dumps(stated)
    pq.write_table(
        made.replace_schema_metadata({} if text is None else {"mmalign.vectors": text}), tmp_path / "t.parquet"
    )
    with pytest.raises(UserError, match=message):
        EmbeddingTable.read(tmp_path / "t.parquet")


def test_damaged_arrow_files_are_refused(table: EmbeddingTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.arrow")
    whole = (tmp_path / "t.arrow").read_bytes()
    for size in (6, 100, len(whole) // 2, len(whole) - 8):
        (tmp_path / "cut.arrow").write_bytes(whole[:size])
        with pytest.raises(UserError, match="expected a Parquet or Arrow file"):
            EmbeddingTable.read(tmp_path / "cut.arrow")


def test_a_row_without_id_is_refused(tmp_path: Path) -> None:
    columns = {
        "id": [None],
        "tower": ["left"],
        "alternative": [0],
        "location": ["t:1"],
        "value": ["x"],
        "label": [["l"]],
    }
    pq.write_table(pa.table(columns | {"vector": [[1.0]]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="a value in every row of column id"):
        EmbeddingTable.read(tmp_path / "t.parquet")
