"""Singular value decomposition of feature matrices, truncated for many rows and features."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu, qr
from scipy.sparse import csr_array, issparse

Rows = Any
"""A float64 array or a SciPy sparse array, one row per sample."""

EXACT, STRONGEST = 4096, 2048
"""Up to this number of rows (or features) the decomposition is complete; beyond it has this rank."""

_SPARE, _ROUNDS = 64, 1


BLOCK = 2**25
"""Maximum number of values of the right singular vectors that are in memory at once."""


class RightVectors:
    """Right singular vectors `(f, r)`, computed a block of features at a time: with many features they would not fit.

    Args:
        rows: `(n, f)`.
        left: Left singular vectors, `(n, r)`.
        values: Singular values, `(r,)`.
    """

    def __init__(self, rows: Rows, left: NDArray[Any], values: NDArray[np.float64]) -> None:
        self._across = rows.T.tocsr() if issparse(rows) else rows.T
        self._left, self._values = left, values

    def __matmul__(self, weights: NDArray[Any]) -> NDArray[Any]:
        """The product with weights `(r, k)`, `(f, k)`."""
        features, rank = self._across.shape[0], max(1, len(self._values))
        step = max(1, BLOCK // rank)
        blocks = [
            ((self._across[start : start + step] @ self._left) / self._values) @ weights
            for start in range(0, features, step)
        ]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def directions(rows: Rows, seed: int) -> tuple[NDArray[Any], NDArray[np.float64], "NDArray[Any] | RightVectors"]:
    """Singular vectors and values `(n, r)`, `(r,)`, `(f, r)` of the rows, all or the largest.

    Effect of truncation on ChEBI-20, by the MRR of 500 held-out text (molecule) queries after the initialisation: with
    2,801 rows, all directions 0.854 (0.827); 2,048 directions 0.851 (0.826); 1,024 directions 0.851 (0.815) in 28 % of
    the time. With 6,749 rows (and PCdes): 2,048 directions 0.880 (0.859); 1,024 directions 0.865 (0.840) in 40 % of the
    time. 26,408 rows take 2.8 times as long as 6,749.

    Args:
        rows: `(n, f)`.
        seed: Seed of the random projection of the truncated decomposition.
    """
    n, f = rows.shape
    if min(n, f) > EXACT:
        return _strongest(rows, seed)
    gram = rows @ rows.T if n <= f else rows.T @ rows
    squares, vectors = np.linalg.eigh(_dense(gram))
    strong = squares > 1e-9 * squares[-1]
    s, vectors = np.sqrt(squares[strong]), vectors[:, strong]
    return (vectors, s, RightVectors(rows, vectors, s)) if n <= f else ((rows @ vectors) / s, s, vectors)


def _strongest(rows: Rows, seed: int) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[Any]]:
    """Randomised range finder in float32 (Halko, Martinsson and Tropp 2011, arXiv 0909.4061), with one power iteration.

    It starts from random sums of rows, which are already close to the leading directions, and orthogonalises only
    matrices with one row per sample, so features may be many.
    """
    x = rows.astype(np.float32)
    across = x.T.tocsr() if issparse(x) else x.T
    n, rng = x.shape[0], np.random.default_rng(seed)
    width = min(STRONGEST + _SPARE, *x.shape)
    signs = rng.choice(np.array([-1, 1], np.float32), n)
    sums = csr_array((signs, (np.arange(n), rng.permutation(n) % width)), shape=(n, width))
    spanned = x @ _dense(across @ sums)
    for _ in range(_ROUNDS):
        spanned = x @ (across @ lu(spanned, permute_l=True, overwrite_a=True)[0])
    spanned = qr(spanned, mode="economic", overwrite_a=True)[0]
    small = across @ spanned  # (f, width)
    squares, turn = np.linalg.eigh((small.T @ small).astype(np.float64))
    strong = (squares > 1e-6 * squares[-1]) & (np.arange(width) >= width - STRONGEST)  # above float32 precision
    s, turn = np.sqrt(squares[strong]), turn[:, strong]
    return spanned @ turn.astype(np.float32), s, small @ (turn / s).astype(np.float32)


def _dense(values: Rows) -> NDArray[Any]:
    return np.asarray(values.toarray() if issparse(values) else values)
