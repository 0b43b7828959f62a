"""Retrieval of texts by texts: BM25 beside a model, and a tower with itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.evaluation.ranking.bm25 import BM25
from mmalign.evaluation.ranking.query_sets import first_and_others
from mmalign.model import Aligner
from mmalign.types import Embedding
from tests.evaluation.running import evaluate_retrieval

Make = Callable[..., Dataset]
WORDS = [
    ["a red disc", "the disc is red", "red"],
    ["two cats", "two small cats"],
    ["a blue disc", "the sea"],
    ["one dog"],
]


def rows() -> list[dict[str, Any]]:
    return [{"words": words} for words in WORDS]


def test_the_first_alternative_retrieves_the_others(model: Aligner, paired: Make) -> None:
    result = evaluate_retrieval(model, paired(rows(), ("words",)), a="words", b="words", split="test", baseline="bm25")
    (direction, scores), *rest = result.scores.items()
    assert (direction, rest) == ("words_to_words", [])
    assert (scores["n"], scores["gallery"], scores["no_relevant_item"]) == (3, 4, 1)
    queries, gallery = [one[0] for one in WORDS], [text for one in WORDS for text in one[1:]]
    owner = torch.tensor([0, 0, 1, 2])
    tables = {
        "": model.encode("words", queries).vector @ model.encode("words", gallery).vector.T,
        "bm25_": BM25(gallery).scores(queries),
    }
    for name, table in tables.items():
        reciprocal = []
        for query in range(3):
            best = table[query, owner == query].max()
            reciprocal.append(1 / (1 + int((table[query, owner != query] >= best - 1e-6).sum())))
        assert scores[f"{name}mrr"] == pytest.approx(sum(reciprocal) / 3)
    low, high = scores["bm25_mrr_ci"]
    assert low <= scores["bm25_mrr"] <= high
    assert "bm25_hit@1" in scores
    assert result.provenance["protocol"]["baseline"].startswith("bm25: BM25 of the words")
    assert "first alternative" in result.provenance["protocol"]["itself"]
    best_items = [int(tables[""][query].masked_fill(owner != query, -2).argmax()) for query in range(3)]
    alternatives = [[1, 2, 1, 1][item] for item in best_items]  # in the record, not in the gallery
    assert result.rows["truth_alternative"][:3] == alternatives
    result.table()


def test_invalid_baselines_are_errors(model: Aligner, paired: Make, unit: Callable[..., list[float]]) -> None:
    both = paired([row | {"left": unit(1)} for row in rows()], ("left", "words"))
    words = {"a": "words", "b": "words", "split": "test"}
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"a": "left", "b": "words", "split": "test", "baseline": "bm25"},
            "not all samples of left and words are texts",
        ),
        (words | {"baseline": "bm52"}, "no baseline called 'bm52'.*bm25"),
        (words | {"average": ["words"]}, "with itself"),
        ({"a": "left", "b": "left", "split": "test"}, "every record has one"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            evaluate_retrieval(model, both, bootstrap=0, **options)


def test_selected_items_keep_their_alternative_index() -> None:
    every = EmbeddedSplit(Embedding(torch.eye(5)), torch.tensor([0, 0, 0, 2, 2]))
    first, others = first_and_others(every)
    assert first.record_indices.tolist() == [0, 2]
    assert others.alternative_indices.tolist() == [1, 2, 1]
    assert others.keep(torch.tensor([False, True, True])).alternative_indices.tolist() == [2, 1]
