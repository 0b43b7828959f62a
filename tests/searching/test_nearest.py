"""Search: FAISS and torch find the same, in the order of the model's score."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from mmalign.embedding.stored_vectors import StoredVectors
from mmalign.embedding.table import EmbeddingTable
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.searching.nearest import search
from mmalign.searching.result import Hit, SearchResult
from mmalign.types import Embedding


@pytest.fixture
def index() -> EmbeddingTable:
    vectors = torch.nn.functional.normalize(torch.randn(300, 8), dim=1)
    names = [str(i) for i in range(300)]
    return EmbeddingTable(
        names, [0] * 300, names, [f"row {i}" for i in names], [()] * 300, StoredVectors.of(vectors), "right"
    )


def test_faiss_and_torch_find_the_same(model: Aligner, index: EmbeddingTable) -> None:
    pytest.importorskip("faiss")
    queries = torch.randn(7, 8).tolist()
    fast = search(model, queries, tower="left", index=index, k=12, engine="faiss").hits
    exact = search(model, queries, tower="left", index=index, k=12, engine="torch").hits
    assert [[hit.id for hit in row] for row in fast] == [[hit.id for hit in row] for row in exact]
    for one, other in zip(fast, exact, strict=True):
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
    scores = model.similarity(model.encode("left", queries), index.embedding)
    assert [row[0].id for row in exact] == [str(best) for best in scores.argmax(dim=1).tolist()]
    assert exact[0][0].value == f"row {exact[0][0].id}"
    assert [hit.score for hit in exact[0]] == sorted((hit.score for hit in exact[0]), reverse=True)


def test_a_table_with_fewer_rows_than_asked_gives_all_rows(model: Aligner, index: EmbeddingTable) -> None:
    for engine in ("torch", "auto"):
        assert len(search(model, [[1.0] * 8], tower="left", index=index, k=1000, engine=engine).hits[0]) == 300


def test_a_score_that_is_no_inner_product_is_found_exactly(
    model: Aligner, index: EmbeddingTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearest by Euclidean distance to twice the query: FAISS's inner product would not do."""

    def distance(a: Embedding, b: Embedding) -> torch.Tensor:
        return -torch.cdist(0.2 * a.vector.round(decimals=1), b.vector)

    objective, _ = model.objective.between("left", "right")
    monkeypatch.setattr(objective, "similarity", distance)
    queries = torch.randn(3, 8).tolist()
    found = search(model, queries, tower="left", index=index, k=5).hits
    expected = distance(model.encode("left", queries), index.embedding).topk(5, dim=1).indices.tolist()
    assert [[int(hit.id) for hit in row] for row in found] == expected
    with pytest.raises(UserError, match="this model has another score"):
        search(model, queries, tower="left", index=index, engine="faiss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: expected at least 1"),
        ({"engine": "annoy"}, "engine: expected auto, torch, faiss, hnsw or ivfpq"),
        ({"tower": "lfet"}, "did you mean 'left'"),
    ],
)
def test_invalid_search_settings_are_errors(
    model: Aligner, index: EmbeddingTable, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        search(model, [[1.0] * 8], **{"tower": "left", "index": index} | change)


def test_a_table_of_another_space(model: Aligner) -> None:
    other = EmbeddingTable(["a"], [0], ["a"], [None], [()], StoredVectors.of(torch.ones(1, 5)), "right")
    with pytest.raises(UserError, match="expected vectors of 8 numbers"):
        search(model, [[1.0] * 8], tower="left", index=other)


def test_search_by_id_excludes_the_row_itself(model: Aligner, index: EmbeddingTable) -> None:
    found = search(model, ["7", "250"], tower="right", index=index, k=4, by_id=True)
    vectors = index.embedding.vector
    for row, at in zip(found.hits, (7, 250), strict=True):
        scores = vectors @ vectors[at]
        scores[at] = -2
        assert [int(hit.id) for hit in row] == scores.topk(4).indices.tolist()
    assert found.queries == ["row 7", "row 250"]
    with pytest.raises(UserError, match="no row of the table has the id '25x'"):
        search(model, ["25x"], tower="right", index=index, by_id=True)


def test_another_table_scores_again(model: Aligner, index: EmbeddingTable) -> None:
    """Bits find candidates, floats order them: the first results are those of the floats."""
    queries = torch.randn(20, 8).tolist()
    exact = search(model, queries, tower="left", index=index, k=3).hits
    bits = search(model, queries, tower="left", index=index.at("binary"), k=3).hits
    both = search(model, queries, tower="left", index=index.at("binary"), k=3, rescore=index).hits
    known = [{hit.id: hit.score for hit in row} for row in exact]
    shared = [sum(hit.id in one for hit in row) for row, one in zip(both, known, strict=True)]
    alone = [sum(hit.id in one for hit in row) for row, one in zip(bits, known, strict=True)]
    assert sum(shared) >= 45 > sum(alone)
    for row, one in zip(both, known, strict=True):
        for hit in row:
            assert hit.id not in one or hit.score == pytest.approx(one[hit.id], abs=1e-6)
    other = replace(index, ids=[*index.ids[:-1], "other"])
    with pytest.raises(UserError, match="expected a table of the same rows"):
        search(model, queries, tower="left", index=index.at("binary"), rescore=other)


def test_show_prints_every_result(model: Aligner, capsys: pytest.CaptureFixture[str]) -> None:
    hits = [[Hit("n7", 0.25, "a [bold] caption"), Hit("n8", 0.125, None)]]
    SearchResult(model, ["a [red] dog"], hits, "left", "right").show()
    shown = capsys.readouterr().out
    for text in ("a [red] dog", "n7", "0.2500", "a [bold] caption", "n8", "value"):
        assert text in shown


def test_show_omits_an_empty_column_of_values(model: Aligner, capsys: pytest.CaptureFixture[str]) -> None:
    SearchResult(model, ["a dog"], [[Hit("n8", 0.125, None)]], "left", "right").show()
    shown = capsys.readouterr().out
    assert "n8" in shown
    assert "value" not in shown


def test_long_words_are_wrapped_not_truncated(model: Aligner, capsys: pytest.CaptureFixture[str]) -> None:
    smiles = "CC(C)" * 60 + "N"
    SearchResult(model, [smiles], [[Hit("n1", 0.5, smiles)]], "left", "right").show()
    shown = capsys.readouterr().out
    assert "\u2026" not in shown
    letters = "".join(line.split("\u2502")[-2].strip() for line in shown.splitlines() if "\u2502" in line)
    assert letters == smiles


def test_uncertainties_of_queries_and_items_are_shown(model: Aligner, capsys: pytest.CaptureFixture[str]) -> None:
    hits = [[Hit("n1", 0.5, "CCO", 0.25), Hit("n2", 0.4, "C", 1.5)]]
    result = SearchResult(model, ["CCO"], hits, "left", "right", [0.125])
    result.show()
    shown = capsys.readouterr().out
    for text in ("CCO (uncertainty 0.125)", "uncertainty", "0.25", "1.5"):
        assert text in shown
    assert result.to_json()[0]["uncertainty"] == 0.125
    assert result.to_json()[0]["answers"][1]["uncertainty"] == 1.5
    plain = SearchResult(model, ["CCO"], [[Hit("n1", 0.5, None)]], "left", "right").to_json()
    assert plain == [{"query": "CCO", "answers": [{"id": "n1", "score": 0.5, "value": None}]}]
