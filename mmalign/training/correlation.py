"""Linear maps under which the features of several sides agree: canonical correlation."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, issparse  # type: ignore[import-untyped]
from torch import Tensor

from mmalign.errors import UserError
from mmalign.training.directions import Rows, directions


def canonical_maps(
    a: Any, b: Any, dim: int, *, ridge: tuple[float, float] = (1.0, 1.0), power: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    r"""Linear maps under which the rows of two sides agree: canonical correlation with a ridge on each side.

    .. math:: U S V^\top = (X^\top X + \lambda_a I)^{-1/2} X^\top Y (Y^\top Y + \lambda_b I)^{-1/2}, \quad
              W_a = (X^\top X + \lambda_a I)^{-1/2} U S^p, \quad W_b = (Y^\top Y + \lambda_b I)^{-1/2} V S^p

    (Hotelling 1936; the ridge is that of Vinod 1976.) Rows are first divided by the root of their mean squared
    length; they are not centred. The work is in the rows' inner products, so features may be many and sparse.

    Args:
        a: Features of one side, `(n, f)`: an array, a tensor, or a SciPy sparse array.
        b: Features of the other side, `(n, g)`, row by row the partners.
        dim: Most directions.
        ridge: Lambda of each side, at least 0.
        power: p; 0 = all directions count alike.
        seed: Of the random projections behind the strongest directions of more than `EXACT` rows.

    Returns:
        `(f, k)` and `(g, k)` float32, k = dim or what the rows allow. The cosine of mapped rows is the score.

    Raises:
        UserError: fewer than two rows, unequal numbers of rows, a NaN, or nothing but zeros.

    Example:
        >>> x = torch.eye(3)
        >>> left, right = canonical_maps(x, x[:, [2, 0, 1]], 3)
        >>> ((x @ left) @ (x[:, [2, 0, 1]] @ right).T).argmax(1)
        tensor([0, 1, 2])
    """
    x, y = _rows(a, "the first side"), _rows(b, "the second side")
    if x.shape[0] != y.shape[0] or x.shape[0] < 2:
        raise UserError(f"canonical start: expected two or more pairs of rows, got {x.shape[0]} and {y.shape[0]}")
    if min(ridge) < 0:
        raise UserError(f"canonical start: ridge must be at least 0, got {ridge}")
    (u, s, v), (p, t, q) = directions(x, seed), directions(y, seed)
    shrink_a, shrink_b = (s**2 + ridge[0]) ** -0.5, (t**2 + ridge[1]) ** -0.5
    left, strength, right = np.linalg.svd((shrink_a * s)[:, None] * (u.T @ p) * (t * shrink_b)[None])
    k = min(dim, len(strength))
    weights = strength[:k] ** power
    maps = v @ (shrink_a[:, None] * left[:, :k] * weights), q @ (shrink_b[:, None] * right[:k].T * weights)
    return torch.from_numpy(maps[0]).float(), torch.from_numpy(maps[1]).float()


def _rows(values: Any, where: str) -> Rows:
    rows: Rows = values.double().numpy() if isinstance(values, Tensor) else values
    rows = csr_array(rows, dtype=np.float64) if issparse(rows) else np.asarray(rows, np.float64)
    held = rows.data if issparse(rows) else rows
    if not np.isfinite(held).all():
        raise UserError(f"canonical start: {where} has features that are NaN or infinite")
    size = float((held**2).sum()) / max(1, rows.shape[0])
    if not size > 0:
        raise UserError(f"canonical start: {where} has no features but zeros")
    return rows / size**0.5
