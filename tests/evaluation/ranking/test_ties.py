"""Ties in the middle: every figure is the mean over all orders of equal scores, taken here one by one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from mmalign.embedding.scoring import Block, margin_of
from mmalign.errors import UserError
from mmalign.evaluation.ranking.ranks import rank_blocks, ranks
from mmalign.evaluation.tasks.retrieval import retrieval_scores
from mmalign.types import Embedding


def inner(a: Embedding, b: Embedding) -> torch.Tensor:
    return a.vector @ b.vector.T


def table(scores: np.ndarray) -> tuple[Embedding, Embedding]:
    return Embedding(torch.as_tensor(scores, dtype=torch.float32)), Embedding(torch.eye(scores.shape[1]))


def slow(row: np.ndarray, good: np.ndarray, ks: tuple[int, ...]) -> tuple[float, list[float], list[float]]:
    """Mean rank of the first right answer, of how often one is among the first k, and how many: over every order."""
    orders = [
        order
        for order in itertools.permutations(range(len(row)))
        if all(row[i] >= row[j] for i, j in itertools.pairwise(order))
    ]
    best, hits, found = Fraction(), [Fraction()] * len(ks), [Fraction()] * len(ks)
    for order in orders:
        places = [rank for rank, item in enumerate(order) if good[item]]
        best += Fraction(places[0], len(orders))
        for at, k in enumerate(ks):
            hits[at] += Fraction(int(places[0] < k), len(orders))
            found[at] += Fraction(sum(place < k for place in places), len(orders))
    return float(best), [float(x) for x in hits], [float(x) for x in found]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_equals_the_mean_over_all_orders(data: st.DataObject) -> None:
    n, m = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
    scores = data.draw(arrays(np.float32, (n, m), elements=st.integers(-1, 1)))
    right = data.draw(arrays(np.int32, (n, m), elements=st.integers(0, 1)))
    right[:, 0] |= ~right.any(1)
    ks = (1, 2, 5)
    got = ranks(*table(scores), csr_array(right), score=inner, ks=ks, ties="middle",
                pairs=data.draw(st.sampled_from([1, 4, 1000])))  # fmt: skip
    assert got.hits is not None
    for query in range(n):
        best, hits, found = slow(scores[query], right[query].astype(bool), ks)
        assert got.best[query].item() == pytest.approx(best, abs=1e-9)
        assert got.hits[query].tolist() == pytest.approx(hits, abs=1e-9)
        assert got.retrieved[query].tolist() == pytest.approx(found, abs=1e-9)


def test_queries_with_fewer_relevant_items_than_others() -> None:
    """What pads their row of a table stands at no rank, and so has no share of one."""
    for ks in ((1, 2, 3), ()):
        got = ranks(*table(np.zeros((2, 2))), csr_array([[1, 0], [1, 1]]), score=inner, ks=ks, ties="middle")
        assert got.hits is not None
        assert got.retrieved.tolist() == [[0.5, 1, 1][: len(ks)], [1, 2, 2][: len(ks)]]
        assert got.hits.tolist() == [[0.5, 1, 1][: len(ks)], [1, 1, 1][: len(ks)]]


def test_a_constant_score_gives_chance() -> None:
    size = 40
    scores = retrieval_scores(
        ranks(*table(np.zeros((size, size))), csr_array(np.eye(size)), score=inner, ks=(1, 10, 39), ties="middle"),
        torch.arange(size),
        resamples=0,
    )
    assert [scores[f"hit@{k}"] for k in (1, 10, 39)] == pytest.approx([1 / 40, 10 / 40, 39 / 40])
    assert [scores[f"recall@{k}"] for k in (1, 10, 39)] == pytest.approx([1 / 40, 10 / 40, 39 / 40])
    assert scores["mean_rank"] == scores["median_rank"] == 20.5
    worst = retrieval_scores(
        ranks(*table(np.zeros((size, size))), csr_array(np.eye(size)), score=inner), torch.arange(size)
    )
    assert (worst["hit@10"], worst["mean_rank"]) == (0, 40)


def test_tie_rules_agree_without_ties() -> None:
    rng = np.random.default_rng(0)
    scores, right = rng.permutation(600).reshape(10, 60), csr_array(rng.random((10, 60)) < 0.1)
    worst, middle = (ranks(*table(scores), right, score=inner, ties=ties) for ties in ("worst", "middle"))
    assert worst.best.tolist() == middle.best.tolist()
    assert worst.retrieved.tolist() == middle.retrieved.tolist()
    assert all(worst.hit(place).tolist() == middle.hit(place).tolist() for place in range(3))


def test_ties_of_33010_items_are_exact() -> None:
    """Logarithms of large factorials keep the digits that matter."""
    size = 33_010
    block = Block(0, torch.zeros(1, size), torch.zeros(1, 1))
    got = rank_blocks([block], csr_array(np.eye(1, size)), gallery=size, ks=(1, 100), ties="middle")
    assert got.hits is not None
    assert got.hits[0].tolist() == pytest.approx([1 / size, 100 / size], rel=1e-4)


def test_margins_may_differ_within_a_row() -> None:
    """Two levels of one list: what is a tie below is none above."""
    scores = torch.tensor([[3.0, 3.0 - 1e-6, 1.0, 1.0 - 1e-6]], dtype=torch.float64)
    margin = torch.tensor([[1e-9, 1e-9, 1e-3, 1e-3]], dtype=torch.float64)
    for right, best in (([1, 0, 0, 0], 0), ([0, 1, 0, 0], 1), ([0, 0, 1, 0], 3), ([0, 0, 0, 1], 3)):
        assert rank_blocks([Block(0, scores, margin)], csr_array([right]), gallery=4).best.tolist() == [best]
    assert margin_of(torch.tensor([[1.0, -4.0]])).shape == (1, 1)


def test_scores_that_come_transposed() -> None:
    """As those of a pair that is asked the other way round."""
    scores = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 2.0]]).T
    right = csr_array([[1, 1, 0], [0, 1, 1]])
    found = rank_blocks([Block(0, scores, margin_of(scores))], right, gallery=3, ks=(1,), ties="middle")
    assert found.retrieved.tolist() == [[1], [1]]
    assert found.best.tolist() == [0, 0]


def test_an_unknown_rule() -> None:
    with pytest.raises(UserError, match="did you mean 'middle'"):
        ranks(*table(np.eye(2)), csr_array(np.eye(2)), score=inner, ties="midle")
