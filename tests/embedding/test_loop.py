"""Embedding a side, and the Parquet file: what goes in comes out, and a stranger's file says what is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.embed_tower import embed
from mmalign.embedding.loop import EmbeddedSplit, averaged, embed_split
from mmalign.embedding.table import EmbeddingTable
from mmalign.embedding.table_file import COLUMNS
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.types import Embedding, Tokens
from tests.evaluation.running import evaluate_retrieval

Make = Callable[..., Dataset]


@pytest.fixture
def data(paired: Make, unit: Callable[..., list[float]]) -> Dataset:
    rows = [
        {"id": "first", "left": unit(1), "words": ["a red disc", "a blue disc"], "label": ["disc", "red"]},
        {"id": "second", "left": unit(0, 2), "words": ["two cats"], "label": None},
    ]
    return paired(rows, ("left", "words"))


def test_every_alternative_in_order(model: Aligner, data: Dataset) -> None:
    model.train()
    embedded = embed_split(model, data, "words", "test", batch_size=2)
    assert model.training
    model.eval()
    assert embedded.record_indices.tolist() == [0, 0, 1]
    assert embedded.alternative_indices.tolist() == [0, 1, 0]
    assert (embedded.embedding.tower, embedded.embedding.vector.dtype) == ("words", torch.float32)
    expected = model.encode("words", ["a red disc", "a blue disc", "two cats"])
    torch.testing.assert_close(embedded.embedding.vector, expected.vector)


def test_alternatives_become_one_item(model: Aligner, data: Dataset) -> None:
    every = embed_split(model, data, "words", "test").embedding.vector
    embedded = embed_split(model, data, "words", "test", average=["words"])
    assert embedded.record_indices.tolist() == [0, 1]
    torch.testing.assert_close(embedded.embedding.vector[0], torch.nn.functional.normalize(every[:2].mean(0), dim=0))
    torch.testing.assert_close(embedded.embedding.vector[1], every[2])
    found = evaluate_retrieval(model, data, a="left", b="words", split="test", bootstrap=0, average=["words"])
    assert (found.scores["words_to_left"]["n"], found.scores["left_to_words"]["gallery"]) == (2, 2)
    assert "of words" in found.provenance["protocol"]["average"]


def test_averaging_tokens_is_an_error_and_variances_are_averaged() -> None:
    two, rows = torch.eye(2), torch.tensor([4, 4])
    wide = Embedding(two, log_variance=torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    found = averaged(EmbeddedSplit(wide, rows)).embedding.log_variance
    torch.testing.assert_close(found, torch.tensor([[((1 + np.exp(2)) / 2), np.e]]).log().float())
    tokens = Tokens(torch.ones(2, 1, 2), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(UserError, match="--average echo: .*more than vectors"):
        averaged(EmbeddedSplit(Embedding(two, tokens=tokens, tower="echo"), rows))


def test_parquet_round_trip(model: Aligner, data: Dataset, tmp_path: Path) -> None:
    embedded = embed_split(model, data, "words", "test")
    path = tmp_path / "words.parquet"
    EmbeddingTable.of(embedded, data.split("test").records, bundle="abc").write(path)
    table = EmbeddingTable.read(path)
    assert (table.ids, table.alternatives) == (["first", "first", "second"], [0, 1, 0])
    assert table.values == ["a red disc", "a blue disc", "two cats"]
    assert table.labels == [("disc", "red"), ("disc", "red"), ()]
    assert [row.endswith(place) for row, place in zip(table.locations, (":1", ":1", ":2"), strict=True)] == [True] * 3
    assert (table.embedding.tower, table.bundle) == ("words", "abc")
    torch.testing.assert_close(table.embedding.vector, embedded.embedding.vector, rtol=0, atol=0)
    assert pq.read_schema(path).names == list(COLUMNS)  # anyone can read it without us


def test_vectors_have_no_text(model: Aligner, data: Dataset, tmp_path: Path) -> None:
    embed(model, data, "left", split="test").write(tmp_path / "left.parquet")
    assert EmbeddingTable.read(tmp_path / "left.parquet").values == [None, None]


def test_another_bundle_is_refused(model: Aligner, data: Dataset, tmp_path: Path) -> None:
    embedded = embed_split(model, data, "words", "test")
    table = EmbeddingTable.of(embedded, data.split("test").records, bundle="abc")
    table.require_bundle("abc")
    with pytest.raises(UserError, match="made by bundle abc, this is xyz"):
        table.require_bundle("xyz")
    EmbeddingTable.of(embedded, data.split("test").records).require_bundle("xyz")  # of unknown origin: the user's word


def test_a_split_without_that_tower_is_an_error(model: Aligner, data: Dataset) -> None:
    with pytest.raises(UserError, match="no record of split 'validation'"):
        embed_split(model, data, "left", "validation")


GOOD = {"id": ["a", "b"], "tower": ["left", "left"], "alternative": [0, 0], "location": ["t:1", "t:2"],
        "value": [None, "x"], "label": [["l"], None], "vector": [[1.0, 0.0], [0.0, 1.0]]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": [[1.0], [0.0, 1.0]]}, "vectors of one length"),
        ({"vector": [[], []]}, "vectors of one length"),
        ({"vector": [[1.0, float("nan")], [0.0, 1.0]]}, "finite vectors"),
        ({"vector": [[1.0, None], [0.0, 1.0]]}, "vectors of one length"),
        ({"vector": [None, [0.0, 1.0]]}, "a list of numbers in every row"),
        ({"vector": [["x"], ["y"]]}, "vectors of one length"),
        ({"vector": [1.0, 2.0]}, "a list of numbers in every row"),
        ({"tower": ["left", "right"]}, "embeddings of one tower"),
        ({"tower": [None, None]}, "embeddings of one tower"),
        ({"vector": None}, "without vector"),
        ({"label": ["l", "m"]}, "expected the column types"),
        ({"alternative": ["first", "second"]}, "expected the column types"),
    ],
)
def test_foreign_files_are_rejected(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    columns = {name: value for name, value in (GOOD | change).items() if value is not None}
    pq.write_table(pa.table(columns), tmp_path / "odd.parquet")
    with pytest.raises(UserError, match=message):
        EmbeddingTable.read(tmp_path / "odd.parquet")


def test_a_table_with_the_old_column_names_is_refused(tmp_path: Path) -> None:
    old = {"tower": "side", "alternative": "place", "location": "row"}
    pq.write_table(pa.table({old.get(name, name): value for name, value in GOOD.items()}), tmp_path / "old.parquet")
    with pytest.raises(UserError, match=r"got the columns side, place and row .* again with mmalign embed"):
        EmbeddingTable.read(tmp_path / "old.parquet")


def test_half_precision_and_large_lists_are_read(tmp_path: Path) -> None:
    vectors = pa.array([np.array([1, 0], np.float16), np.array([0, 1], np.float16)], pa.list_(pa.float16()))
    pq.write_table(pa.table(GOOD | {"vector": vectors}), tmp_path / "half.parquet")
    torch.testing.assert_close(EmbeddingTable.read(tmp_path / "half.parquet").embedding.vector, torch.eye(2))


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("id,vector\n")
    for name in ("text.parquet", "absent.parquet"):
        with pytest.raises(UserError, match="expected a Parquet or Arrow file"):
            EmbeddingTable.read(tmp_path / name)
    pq.write_table(pa.table(GOOD).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="embeddings of one tower, got none"):
        EmbeddingTable.read(tmp_path / "empty.parquet")


def test_a_table_with_texts_that_are_not_utf8_is_refused(tmp_path: Path) -> None:
    bad = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    cells = {"id": ["1"], "tower": ["left"], "alternative": [0], "location": ["t:1"], "value": bad, "label": [[]]}
    pq.write_table(pa.table(cells | {"vector": [[1.0, 0.0]]}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="expected the column types of mmalign embed"):
        EmbeddingTable.read(tmp_path / "t.parquet")
