"""The directions in which rows of features vary: singular vectors, of many sparse rows the strongest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse  # type: ignore[import-untyped]

Rows = Any
"""A float64 array, or a SciPy sparse one, a row a sample."""

EXACT, STRONGEST = 4096, 2048
"""Up to so many rows all directions are kept; of more rows, the strongest so many."""


def directions(rows: Rows, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Singular vectors and values `(n, r)`, `(r,)`, `(f, r)` of the rows."""
    if rows.shape[0] <= EXACT:
        gram = rows @ rows.T
        squares, u = np.linalg.eigh(gram.toarray() if issparse(gram) else gram)
        kept = squares > 1e-9 * squares[-1]
        s, u = np.sqrt(squares[kept]), u[:, kept]
        return u, s, (rows.T @ u) / s
    from sklearn.utils.extmath import randomized_svd

    u, s, vt = randomized_svd(rows, min(STRONGEST, *rows.shape), n_iter=2, random_state=seed)
    kept = s > 3e-5 * s[0]
    return u[:, kept], s[kept], vt[kept].T
