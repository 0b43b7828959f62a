"""Contrastive cross-entropy of similarity matrices, for similarities that are no dot products."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.own_rows import warn_own_rows


def similarity_cross_entropy(forth: Tensor, back: Tensor | None = None, *, groups: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy of a similarity matrix with its positives.

        rows    = mean over i of  log sum_j exp forth_ij - mean over j in P(i) of forth_ij
        columns = mean over j of  log sum_i exp back_ij  - mean over i in P(j) of back_ij
        loss    = (rows + columns) / 2

    where `P(i)` are the positives of i. It is `clip_loss` for similarities that are no dot products, such as those of
    late interaction and transport (CLIP, arXiv 2103.00020; several positives: arXiv 2004.11362, equation 2).

    Args:
        forth: `(n, n)` logits (similarities times the scale); row i and column i are a pair.
        back: `(n, n)` logits of the other direction, where the two differ; default: `forth`.
        groups: `(n,)` integers; equal group = positive.

    Returns:
        Scalar, in float32 (float64 where a matrix is); zero, with a graph, for an empty matrix.

    Raises:
        UserError: shapes do not fit, or (on the CPU) got NaN or infinity.

    Example:
        >>> similarity_cross_entropy(torch.zeros(4, 4))  # log 4
        tensor(1.3863)
    """
    warn_own_rows("similarity_cross_entropy", "an objective such as late_interaction or transport")
    n = len(forth)
    if forth.shape != (n, n):
        raise UserError(f"expected a square table of logits, got shape {tuple(forth.shape)}")
    return partial_similarity_cross_entropy(
        forth, back, rows=slice(0, n), groups=_numbered(forth) if groups is None else groups
    )


def partial_similarity_cross_entropy(
    forth: Tensor,
    back: Tensor | None = None,
    *,
    rows: slice,
    groups: Tensor,
    merge: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Part of a global batch's `similarity_cross_entropy` that one process contributes; the parts sum to the whole.

    Args:
        forth: `(own rows, n)`: this process's rows, every column.
        back: The same for the other direction; default: `forth`.
        rows: Slice of the own rows among all rows.
        groups: `(n,)` integers, of all rows; equal group = positive.
        merge: Maps the column log-sum-exps over own rows to those over all rows; None: own rows are all.

    Returns:
        Scalar, in float32 (float64 where a matrix is).

    Raises:
        UserError: shapes do not fit, or (on the CPU) got NaN or infinity.
    """
    back = forth if back is None else back
    dtype = torch.promote_types(torch.promote_types(forth.dtype, back.dtype), torch.float32)
    forth, back = forth.to(dtype), back.to(dtype)
    if forth.shape != back.shape or groups.shape != forth.shape[1:] or len(forth) != rows.stop - rows.start:
        came = f"{tuple(forth.shape)}, {tuple(back.shape)} and {tuple(groups.shape)} groups"
        raise UserError(f"expected two tables (own rows, all rows) and a group for each of all rows, got {came}")
    if forth.device.type == "cpu" and not (bool(forth.isfinite().all()) and bool(back.isfinite().all())):
        raise UserError("a contrastive loss expected finite similarities, and got NaN or infinity")
    n = max(len(groups), 1)
    lse_rows = forth.logsumexp(1)
    lse_columns = back.logsumexp(0)  # of no rows: -inf, with a graph
    lse_columns = lse_columns if merge is None else merge(lse_columns)
    same = (groups[rows, None] == groups).to(forth.dtype)
    of_rows, of_columns = same.sum(1).clamp(min=1), _sizes(groups).to(forth.dtype)
    by_row = ((forth * same).sum(1) / of_rows).sum()
    by_column = (back * same / of_columns).sum()
    return ((lse_rows.sum() - by_row) + (lse_columns[rows].sum() - by_column)) / (2 * n)


def _sizes(groups: Tensor) -> Tensor:
    ordered = groups.sort().values
    return torch.searchsorted(ordered, groups, right=True) - torch.searchsorted(ordered, groups)


def _numbered(table: Tensor) -> Tensor:
    return torch.arange(len(table), device=table.device)
