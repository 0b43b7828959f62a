"""Regularised canonical correlation analysis of two views (CCA) and of several (MAXVAR)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array, issparse
from torch import Tensor

from mmalign.errors import UserError
from mmalign.training.starting.cca.truncated_svd import Rows, directions


def canonical_maps(
    a: Any, b: Any, dim: int, *, ridge: tuple[float, float] = (1.0, 1.0), power: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    r"""Canonical correlation analysis of two views, with a ridge penalty on each.

    .. math:: U S V^\top = (X^\top X + \lambda_a I)^{-1/2} X^\top Y (Y^\top Y + \lambda_b I)^{-1/2}, \quad
              W_a = (X^\top X + \lambda_a I)^{-1/2} U S^p, \quad W_b = (Y^\top Y + \lambda_b I)^{-1/2} V S^p

    (Hotelling 1936; the ridge is that of Vinod 1976.) Rows are first divided by the root of their mean squared
    length; they are not centred. The computation uses inner products of rows, so features may be many and sparse.

    Args:
        a: Features of one view, `(n, f)`: an array, a tensor, or a SciPy sparse array.
        b: Features of the other view, `(n, g)`; row i is paired with row i of `a`.
        dim: Maximum number of directions.
        ridge: Lambda of each view, at least 0.
        power: p; 0 = equal weight of all directions.
        seed: Seed of the random projections used with more than `EXACT` rows.

    Returns:
        `(f, k)` and `(g, k)` float32, k = min(dim, rank). The score is the cosine of mapped rows.

    Raises:
        UserError: fewer than two rows, unequal numbers of rows, a NaN, or only zeros.

    Example:
        >>> x = torch.eye(3)
        >>> left, right = canonical_maps(x, x[:, [2, 0, 1]], 3)
        >>> ((x @ left) @ (x[:, [2, 0, 1]] @ right).T).argmax(1)
        tensor([0, 1, 2])
    """
    x, y = _rows(a, "the first view"), _rows(b, "the second view")
    if x.shape[0] != y.shape[0] or x.shape[0] < 2:
        raise UserError(f"CCA initialisation: expected two or more pairs of rows, got {x.shape[0]} and {y.shape[0]}")
    if min(ridge) < 0:
        raise UserError(f"CCA initialisation: ridge must be at least 0, got {ridge}")
    (u, s, v), (p, t, q) = directions(x, seed), directions(y, seed)
    shrink_a, shrink_b = (s**2 + ridge[0]) ** -0.5, (t**2 + ridge[1]) ** -0.5
    left, strength, right = np.linalg.svd((shrink_a * s)[:, None] * (u.T @ p) * (t * shrink_b)[None])
    k = min(dim, len(strength))
    weights = strength[:k] ** power
    maps = v @ (shrink_a[:, None] * left[:, :k] * weights), q @ (shrink_b[:, None] * right[:k].T * weights)
    return torch.from_numpy(maps[0]).float(), torch.from_numpy(maps[1]).float()


def shared_maps(
    views: Sequence[Any],
    present: NDArray[np.bool_],
    dim: int,
    *,
    ridge: Sequence[float],
    power: float = 1.0,
    seed: int = 0,
) -> list[Tensor]:
    r"""Generalised canonical correlation analysis of several views; rows may lack some of the views.

    .. math:: \Big(\sum_i X_i (X_i^\top X_i + \lambda_i I)^{-1} X_i^\top\Big) g = \mu\, K g, \quad
              W_i = (X_i^\top X_i + \lambda_i I)^{-1} X_i^\top G\, \mathrm{diag}(\rho)^p, \quad
              \rho = \max\Big(0, \frac{\bar k \mu - 1}{\bar k - 1}\Big)

    Generalised canonical correlation, MAXVAR (Kettenring 1971), with missing rows (van de Velden and Bijmolt 2006): a
    missing row is zero, K counts the views that a row has, with mean k. Rho is the mean correlation of the views in
    that direction. Rows are scaled as in `canonical_maps`.

    Args:
        views: Features of each view, `(n, f_i)`; missing rows are ignored.
        present: `(n, views)`, True = the view has the row.
        dim: Maximum number of directions.
        ridge: Lambda of each view, at least 0.
        power: p; 0 = equal weight of all directions.
        seed: As in `canonical_maps`.

    Returns:
        `(f_i, k)` float32 for each view. The score is the cosine of mapped rows.

    Raises:
        UserError: as `canonical_maps`, or a view that shares fewer than two rows with the others.

    Example:
        >>> x = torch.eye(4)
        >>> maps = shared_maps([x, x.flip(1), 2 * x], np.ones((4, 3), bool), 4, ridge=(1.0, 1.0, 1.0))
        >>> ((x @ maps[0]) @ (x.flip(1) @ maps[1]).T).argmax(1)
        tensor([0, 1, 2, 3])
    """
    if min(ridge) < 0 or len(ridge) != len(views):
        raise UserError(
            f"CCA initialisation: expected a ridge of at least 0 for each of {len(views)} views, got {ridge}"
        )
    paired = present.sum(1) > 1  # a row with one view has no information on shared directions
    counts = present[paired].sum(1)
    svds, blocks = [], []
    for index, (view, strength) in enumerate(zip(views, ridge, strict=True)):
        there = present[paired, index]
        if there.sum() < 2:
            raise UserError(f"CCA initialisation: view {index + 1} shares {there.sum()} rows with others; expected two")
        rows = _rows(view, f"view {index + 1}", paired & present[:, index])[paired]
        u, s, v = directions(rows * there[:, None], seed)
        svds.append((u, s / (s**2 + strength), v))
        blocks.append(u * (s / (s**2 + strength) ** 0.5) / counts[:, None] ** 0.5)
    joined = np.concatenate(blocks, axis=1)
    mu, common = _strongest(joined, dim)
    mean = counts.mean()
    weight = ((mean * mu - 1) / (mean - 1)).clip(min=0) ** power
    common = common / counts[:, None] ** 0.5
    return [torch.from_numpy(v @ (shrunk[:, None] * (u.T @ common)) * weight).float() for u, shrunk, v in svds]


def _strongest(joined: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest squared singular values, and the left vectors, from the smaller of the two Gram matrices."""
    n, m = joined.shape
    gram = joined @ joined.T if n <= m else joined.T @ joined
    count = min(dim, n, m)
    mu, vectors = eigh(gram, subset_by_index=[len(gram) - count, len(gram) - 1])
    mu, vectors = mu[::-1], vectors[:, ::-1]
    if n <= m:
        return mu, vectors
    strong = mu > 1e-9 * mu[0]
    return mu[strong], joined @ vectors[:, strong] / np.sqrt(mu[strong])


def _rows(values: Any, where: str, counted: NDArray[np.bool_] | None = None) -> Rows:
    rows: Rows = values.double().numpy() if isinstance(values, Tensor) else values
    rows = csr_array(rows, dtype=np.float64) if issparse(rows) else np.asarray(rows, np.float64)
    known = rows if counted is None else rows[counted]
    held = known.data if issparse(known) else known
    if not np.isfinite(held).all():
        raise UserError(f"CCA initialisation: {where} has features that are NaN or infinite")
    size = float((held**2).sum()) / max(1, known.shape[0])
    if not size > 0:
        raise UserError(f"CCA initialisation: {where} has only zero features")
    return rows / size**0.5
