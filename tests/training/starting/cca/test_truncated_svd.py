"""The singular vectors behind the start in closed form: all of them, and the strongest, against NumPy's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from mmalign.training.starting.cca import truncated_svd as made
from mmalign.training.starting.cca.truncated_svd import directions

KINDS: dict[str, Callable[[np.ndarray], Any]] = {"dense": lambda rows: rows, "sparse": csr_array}


def decaying(n: int, f: int, seed: int = 0) -> np.ndarray:
    """Rows whose k-th singular value is 1 / k, with no zero in them."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(size, min(n, f))))[0] for size in (n, f))
    return np.asarray(u / np.arange(1, min(n, f) + 1) @ v.T)


def few(monkeypatch: pytest.MonkeyPatch, strongest: int, spare: int = 10) -> None:
    monkeypatch.setattr(made, "EXACT", 20)
    monkeypatch.setattr(made, "STRONGEST", strongest)
    monkeypatch.setattr(made, "_SPARE", spare)


def array(vectors: Any, rank: int) -> np.ndarray:
    """Right singular vectors, `(f, rank)`, also where they are computed by blocks."""
    return np.asarray(vectors @ np.eye(rank))


@pytest.mark.parametrize("block", [made.BLOCK, 100])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_all_directions_reconstruct_the_rows(
    kind: str, shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "BLOCK", block)
    rows = decaying(*shape)
    u, s, v = directions(KINDS[kind](rows), 0)
    v = array(v, len(s))
    np.testing.assert_allclose(np.sort(s), np.sort(1 / np.arange(1, 31)), rtol=1e-6)
    np.testing.assert_allclose(u * s @ v.T, rows, atol=1e-10)
    for vectors in (u, v):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(30), atol=1e-6)


def test_rank_deficient_rows_have_as_many_directions_as_their_rank() -> None:
    rows = decaying(30, 50)
    rows[20:] = rows[:10]
    for some in (rows, rows.T):
        u, s, v = directions(some, 0)
        assert (u.shape[1], len(s), array(v, 20).shape[1]) == (20, 20, 20)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(90, 140), (140, 90)])
def test_truncated_directions_equal_the_leading_ones(
    kind: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = decaying(*shape)
    few(monkeypatch, 25)
    u, s, v = directions(KINDS[kind](rows), 0)
    assert u.shape == (shape[0], 25)
    assert v.shape == (shape[1], 25)
    for vectors in (u, v):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(25), atol=1e-4)
    np.testing.assert_allclose(np.sort(s)[::-1], 1 / np.arange(1, 26), rtol=0.03)
    left, values, right = np.linalg.svd(rows)
    best = left[:, :25] * values[:25] @ right[:25]
    error, least = (float(((rows - found) ** 2).sum()) for found in (u * s @ v.T, best))
    assert error < 1.02 * least


def test_low_rank_rows_are_reconstructed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = decaying(100, 80)[:, :1] @ np.ones((1, 60)) + decaying(100, 8) @ np.random.default_rng(1).normal(
        size=(8, 60)
    )
    few(monkeypatch, 30)
    u, s, v = directions(rows, 0)
    assert len(s) == np.linalg.matrix_rank(rows) == 9
    np.testing.assert_allclose(u * s @ v.T, rows, atol=1e-5)


def test_few_features_are_exact_for_any_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_strongest", None)
    few(monkeypatch, 25)
    rows = decaying(300, 15)
    u, s, v = directions(rows, 0)
    np.testing.assert_allclose(u * s @ v.T, rows, atol=1e-10)


def test_directions_depend_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch, 5, spare=0)
    once, again, other = (directions(decaying(90, 140), seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
