"""Rank consistency over alternatives, by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.sparse import csr_array

from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import EmbeddedSplit
from mmalign.errors import UserError
from mmalign.evaluation.ranking.consistency import alternatives_of, consistency_scores, rank_spread
from mmalign.evaluation.ranking.query_sets import QuerySet
from mmalign.evaluation.ranking.ranks import Ranks, ranks
from mmalign.model import Aligner
from mmalign.types import Embedding
from tests.evaluation.running import evaluate_retrieval

Make = Callable[..., Dataset]
Unit = Callable[..., list[float]]


def test_rank_spread_equals_the_published_example() -> None:
    ranks = torch.tensor([[0.0, 0, 0, 0], [0, 2, 4, 6]])
    spread = rank_spread(ranks)
    torch.testing.assert_close(float(spread["rank_sd"].mean()), 5**0.5 / 2)
    assert float(spread["rank_variance"].mean()) == 2.5
    for name, factor in (("rank_sd", 2), ("rank_variance", 4)):
        torch.testing.assert_close(rank_spread(2 * ranks)[name], factor * spread[name])
        torch.testing.assert_close(rank_spread(ranks[:, [2, 0, 3, 1]])[name], spread[name])


PLANE = torch.tensor([[1.0, 0], [0, 1], [-1, -0.5]])


def exchanged() -> tuple[EmbeddedSplit, EmbeddedSplit]:
    """Three records; the second alternatives of the first two are exchanged."""
    left = EmbeddedSplit(Embedding(PLANE, tower="left"), torch.arange(3))
    right = Embedding(PLANE[[0, 1, 1, 0, 2, 2]], tower="right")
    return left, EmbeddedSplit(right, torch.tensor([0, 0, 1, 1, 2, 2]))


def rank(one: QuerySet) -> Ranks:
    relevant = csr_array((one.queries.record_indices[:, None] == one.gallery.record_indices).int().numpy())
    return ranks(one.queries.embedding, one.gallery.embedding, relevant, score=lambda a, b: a.vector @ b.vector.T)


@pytest.mark.parametrize("direction", ["left_to_right", "right_to_left"])
def test_each_alternative_has_its_own_gallery(direction: str) -> None:
    """Ranks 0 and 1 in the first two records, 0 and 0 in the third: standard deviations 1/2, 1/2 and 0."""
    left, right = exchanged()
    one = QuerySet(left, right, None, 0) if direction == "left_to_right" else QuerySet(right, left, None, 0)
    scores = consistency_scores(one, "right", alternatives_of(right, "right"), rank)
    assert scores["rank_sd"] == pytest.approx(1 / 3)
    assert scores["rank_variance"] == pytest.approx(1 / 6)
    low, high = scores["rank_sd_ci"]
    assert 0 <= low < high <= 0.5
    assert not [name for name in consistency_scores(one, "right", 2, rank, resamples=0) if name.endswith("_ci")]


def test_a_table_of_captions(model: Aligner, paired: Make, unit: Unit) -> None:
    captions = [["a red disc", "two cats"], ["a blue disc", "one dog", "a bird"], ["a red disc", "a red disc"]]
    rows: list[dict[str, Any]] = [{"left": unit(1, n), "words": words} for n, words in enumerate(captions)]
    data = paired(rows, ("left", "words"))
    result = evaluate_retrieval(model, data, a="left", b="words", split="test", consistency="words")
    left = model.encode("left", [unit(1, n) for n in range(3)]).vector
    words = [model.encode("words", [one[k] for one in captions]).vector for k in range(2)]
    for direction in ("left_to_words", "words_to_left"):
        by_hand = []
        for each in words:
            scores = left @ each.T if direction == "left_to_words" else each @ left.T
            by_hand.append((scores >= scores.diagonal()[:, None] - 1e-6).sum(1) - 1.0)  # ties count against
        wanted = rank_spread(torch.stack(by_hand, 1))
        for name, values in wanted.items():
            assert result.scores[direction][name] == pytest.approx(float(values.mean()), abs=1e-6)
    assert "first 2 alternatives of words" in result.provenance["protocol"]["consistency"]
    plain = evaluate_retrieval(model, data, a="left", b="words", split="test")
    assert not [name for scores in plain.scores.values() for name in scores if name.startswith("rank_")]


def test_consistency_without_alternatives_is_an_error(model: Aligner, paired: Make, unit: Unit) -> None:
    captions = [["a red disc", "two cats"], ["a blue disc"], ["one dog", "a bird"]]
    data = paired([{"left": unit(1, n), "words": words} for n, words in enumerate(captions)], ("left", "words"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"consistency": "words"}, "1 of 3 records have one"),
        ({"consistency": "middle"}, "left or words"),
        ({"consistency": "words", "average": ["words"]}, "no average"),
        ({"consistency": "words", "ensemble": [model]}, "one model"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            evaluate_retrieval(model, data, a="left", b="words", split="test", bootstrap=0, **options)
