"""Ranks against a slow float64 loop, tables by hand, chunking, memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from mmalign.embedding.scoring import score_blocks
from mmalign.errors import UserError
from mmalign.evaluation.ranking.ranks import ranks
from mmalign.types import Embedding


def table(scores: list[list[float]] | np.ndarray):
    """Queries whose vectors are their score rows, and a gallery of unit vectors: the score matrix is the table."""
    rows = torch.as_tensor(np.asarray(scores), dtype=torch.float32)
    return Embedding(rows, tower="q"), Embedding(torch.eye(rows.shape[1]), tower="g")


def inner(a: Embedding, b: Embedding) -> torch.Tensor:
    return a.vector @ b.vector.T


def slow(scores: np.ndarray, right: np.ndarray, ks: tuple[int, ...]) -> list[tuple[int, int, list[int]]]:
    """Sort each list wrong-before-right within ties, in float64, and look where the right answers are."""
    found = []
    for row, good in zip(scores.astype(np.float64), right.astype(bool), strict=True):
        if not good.any():
            continue
        order = sorted(range(len(row)), key=lambda j: (-row[j], good[j]))
        places = [rank for rank, j in enumerate(order) if good[j]]
        found.append((places[0], len(places), [sum(rank < k for rank in places) for k in ks]))
    return found


def check(scores: np.ndarray, right: np.ndarray, ks: tuple[int, ...], pairs: int) -> None:
    queries, gallery = table(scores)
    expected = slow(scores, right, ks)
    if not expected:
        with pytest.raises(UserError, match="no query has a relevant item"):
            ranks(queries, gallery, csr_array(right), score=inner, ks=ks, pairs=pairs)
        return
    got = ranks(queries, gallery, csr_array(right), score=inner, ks=ks, pairs=pairs)
    assert list(zip(got.best.tolist(), got.relevant.tolist(), got.retrieved.tolist(), strict=True)) == expected
    assert got.queries.tolist() == right.any(axis=1).nonzero()[0].tolist()
    assert got.gallery == scores.shape[1]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equals_the_slow_loop(data: st.DataObject) -> None:
    """Whole numbers in a small range: ties everywhere; any number of right answers, none included; any chunk."""
    n, m = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    scores = data.draw(arrays(np.float32, (n, m), elements=st.integers(-3, 3)))
    right = data.draw(arrays(np.int32, (n, m), elements=st.integers(0, 1)))
    ks = data.draw(st.sampled_from([(1, 5, 10), (3,), (20, 1), ()]))
    check(scores, right, ks, data.draw(st.sampled_from([1, 3, 7, 25, 10_000])))


def test_long_rows_are_counted_exactly() -> None:
    """Wider than the 2,040 booleans that the byte-wise counting adds in one run."""
    scores = np.random.default_rng(0).standard_normal((5, 6200)).astype(np.float32)
    right = np.zeros((5, 6200), dtype=np.int32)
    right[range(5), range(5)] = 1
    scores[0, 0], scores[1, 1] = 99, -99  # first, and last of 6,200
    check(scores, right, (1, 5, 10), 10_000)


@pytest.mark.parametrize(
    ("row", "right", "best", "found"),
    [
        ([0.9, 0.5, 0.1], [1, 0, 0], 0, [1, 1]),
        ([0.5, 0.9, 0.1], [1, 0, 0], 1, [0, 1]),
        ([0.5, 0.5, 0.5], [1, 0, 0], 2, [0, 0]),  # a constant score is no skill: last
        ([0.5, 0.5, 0.5], [1, 1, 0], 1, [0, 1]),  # right ones do not stand in each other's way
        ([0.9, 0.5, 0.9], [1, 1, 0], 1, [0, 1]),
        ([0.9, 0.8, 0.7], [1, 1, 1], 0, [1, 2]),
        ([-0.9, -0.5, -0.1], [0, 0, 1], 0, [1, 1]),  # negative scores rank as any other
    ],
)
def test_ranks_of_small_tables_computed_by_hand(
    row: list[float], right: list[int], best: int, found: list[int]
) -> None:
    queries, gallery = table([row])
    got = ranks(queries, gallery, csr_array([right]), score=inner, ks=(1, 2))
    assert (got.best.tolist(), got.retrieved.tolist()) == ([best], [found])


def test_last_bits_are_a_tie() -> None:
    """One float32 step above a wrong answer of equal meaning is not a win."""
    one = np.float32(0.7)
    queries, gallery = table([[np.nextafter(one, np.float32(1)), one, 0.1]])
    assert ranks(queries, gallery, csr_array([[1, 0, 0]]), score=inner).best.tolist() == [1]
    queries, gallery = table([[0.7001, 0.7, 0.1]])
    assert ranks(queries, gallery, csr_array([[1, 0, 0]]), score=inner).best.tolist() == [0]


def test_chunks_change_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    queries = Embedding(torch.nn.functional.normalize(torch.randn(50, 16, generator=generator)))
    gallery = Embedding(torch.nn.functional.normalize(torch.randn(70, 16, generator=generator)))
    right = csr_array((torch.rand(50, 70, generator=generator) < 0.05).int().numpy())
    whole = ranks(queries, gallery, right, score=inner)
    for pairs in (1, 33, 70, 500):
        part = ranks(queries, gallery, right, score=inner, pairs=pairs)
        for name in ("queries", "best", "relevant", "retrieved"):
            torch.testing.assert_close(getattr(part, name), getattr(whole, name))


def test_blocks_of_scores_are_bounded() -> None:
    seen = []

    def score(a: Embedding, b: Embedding) -> torch.Tensor:
        seen.append(len(a) * len(b))
        return inner(a, b)

    queries, gallery = table(np.arange(60, dtype=np.float32).reshape(6, 10))
    blocks = [block for _, block in score_blocks(queries, gallery, score=score, pairs=4)]
    assert max(seen) <= 4
    torch.testing.assert_close(torch.cat(blocks), queries.vector)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_or_infinite_scores_are_errors(bad: float) -> None:
    queries = Embedding(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), tower="left")
    gallery = Embedding(torch.eye(2), tower="right")

    def score(a: Embedding, b: Embedding) -> torch.Tensor:
        scores = inner(a, b)
        scores[-1, 0] = bad
        return scores

    with pytest.raises(UserError, match="left -> right: expected finite scores"):
        ranks(queries, gallery, csr_array(np.eye(2)), score=score)


def test_scores_of_the_caller_are_not_modified() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    queries, gallery = table([[0.0, 0.0, 0.0]])
    ranks(queries, gallery, csr_array([[1, 0, 1]]), score=lambda a, b: scores)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 2.0, 3.0]]))


def test_a_large_gallery_fits_in_little_memory() -> None:
    """12,000 x 12,000 scores would be 576 MB; peak memory of a process of its own stays far below."""
    program = (
        "import resource, torch; from scipy.sparse import eye_array; from mmalign.types import Embedding\n"
        "from mmalign.evaluation.ranking.ranks import ranks\n"
        "e = Embedding(torch.nn.functional.normalize(torch.randn(12000, 32)))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = ranks(e, e, eye_array(12000, format='csr'), score=lambda a, b: a.vector @ b.vector.T)\n"
        "assert int(found.best.max()) == 0, found.best.max()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 250 * 1024


def test_blocks_that_are_left_early_leave_gradients_on() -> None:
    from mmalign.embedding.scoring import score_blocks

    e = Embedding(torch.eye(6))
    for pairs in (6, 36):
        blocks = score_blocks(e, e, score=lambda a, b: a.vector @ b.vector.T, pairs=pairs)
        next(blocks)
        assert torch.is_grad_enabled()


def test_results_of_many_blocks_are_kept_in_few_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small tensor a block, between the blocks of scores, let the heap grow: 4.6 GB at 50,000 queries."""
    made: list[int] = []
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *size: made.append(size[0]) or empty(self, *size))
    rows = 9000
    queries, gallery = Embedding(torch.eye(4).repeat(rows // 4, 1)), Embedding(torch.eye(4))
    truth = csr_array((np.ones(rows), (np.arange(rows), np.arange(rows) % 4)), shape=(rows, 4))
    found = ranks(queries, gallery, truth, score=inner, pairs=40)  # 900 blocks
    assert found.queries.tolist() == list(range(rows))
    assert not found.best.any()
    assert len(made) <= 5 * 3
