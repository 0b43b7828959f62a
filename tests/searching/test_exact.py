"""Exact search in tiles finds what the whole score matrix holds."""

import pytest
import torch
from torch.testing import assert_close

from mmalign.embedding.scoring import inner_product
from mmalign.embedding.stored_vectors import PRECISIONS, StoredVectors
from mmalign.searching import exact
from mmalign.searching.exact import best_rows, score_again
from mmalign.types import Embedding


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("queries", "k"), [(1, 3), (5, 7), (70, 1), (3, 500)])
def test_tiles_find_the_best_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, precision: str, queries: int, k: int
) -> None:
    monkeypatch.setattr(exact, "_PAIRS", 2**11)
    monkeypatch.setattr(exact, "_QUERIES", 32)  # tiles of 64 rows
    stored = StoredVectors.of(torch.randn(300, 6), precision)
    asked = Embedding(torch.randn(queries, 6))
    scores, rows = best_rows(asked, stored, k, score=inner_product)
    whole = asked.vector @ stored.decode().T
    assert_close(scores, whole.topk(min(k, 300), dim=1).values)
    assert_close(whole.gather(1, rows), scores)
    assert all(len(set(row)) == min(k, 300) for row in rows.tolist())


def test_no_query_and_no_row() -> None:
    rows = StoredVectors.of(torch.randn(4, 6))
    assert best_rows(Embedding(torch.empty(0, 6)), rows, 3, score=inner_product)[1].shape == (0, 3)
    assert best_rows(Embedding(torch.randn(2, 6)), StoredVectors.of(torch.empty(0, 6)), 3, score=inner_product)[
        0
    ].shape == (2, 0)


def test_candidates_are_scored_again() -> None:
    stored = StoredVectors.of(torch.eye(4))
    asked = Embedding(torch.tensor([[0.1, 0.4, 0.3, 0.2], [1.0, 0.0, 0.0, 0.0]]))
    scores, rows = score_again(asked, stored, torch.tensor([[0, 3, -1], [-1, -1, -1]]), 2, score=inner_product)
    assert rows.tolist() == [[3, 0], [-1, -1]]  # -1 = none
    assert_close(scores, torch.tensor([[0.2, 0.1], [-torch.inf, -torch.inf]]))
