"""CLIP and SigLIP losses, computed in tiles: the `(n, m)` similarity matrix is never stored.

Positives are defined by groups: `P(i) = {j : groups_b[j] == groups_a[i]}`. Because dot products are linear, the sum
over the positives of a row needs only the sum of the vectors of its group, not a mask of pairs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.own_rows import warn_own_rows
from mmalign.objectives.functional.computing.tiled_logsumexp import (
    TileMask,
    dot_logsumexp,
    dot_softplus_sum,
    not_finite,
)


def clip_loss(
    a: Tensor,
    b: Tensor,
    scale: Tensor | float,
    *,
    bias: Tensor | float | None = None,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
) -> Tensor:
    """Symmetric cross-entropy between the pairs' similarities and their positives.

    With `s_ij = scale a_i . b_j`:

        rows    = mean over i with positives of  log sum_j exp s_ij - mean over j in P(i) of s_ij
        columns = the same with a and b exchanged
        loss    = (rows + columns) / 2

    With one positive each it is the loss of Radford et al. 2021 (CLIP, arXiv 2103.00020, figure 3); with several, the
    cross-entropy to a target spread evenly over them (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    Args:
        a: `(n, dim)`, usually unit vectors.
        b: `(m, dim)`.
        scale: Multiplies the dot products (the inverse of the temperature): a number, or one element with a gradient.
        bias: Accepted so that CLIP and SigLIP have one signature; it cancels in a softmax, so its gradient is zero.
        groups_a: `(n,)` integers; equal group = positive. Without groups `n` must be `m` and row i matches column i.
        groups_b: `(m,)`.

    Returns:
        Scalar, in float32 (float64 where an input is). Rows and columns without a positive are left out of the means;
        where there is no positive at all the loss is zero, with a graph.

    Raises:
        UserError: shapes or groups do not fit, or (on the CPU) got NaN or infinity.

    Example:
        >>> eye = torch.eye(4)
        >>> clip_loss(eye, eye, 0.0)  # all logits equal: log 4
        tensor(1.3863)
        >>> clip_loss(eye, eye, 100.0)
        tensor(0.)
    """
    warn_own_rows("clip_loss", "the objective clip")
    a, b, scale = _wide(a, b, scale)
    groups_a, groups_b = _check(a, b, groups_a, groups_b)
    columns = slice(0, len(b))
    loss = partial_clip_loss(a * scale, b, rows=slice(0, len(a)), columns=columns, groups_a=groups_a, groups_b=groups_b)
    return loss if bias is None else loss + 0.0 * torch.as_tensor(bias, dtype=a.dtype, device=a.device).sum()


def siglip_loss(
    a: Tensor,
    b: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of every pair: match or no match.

    With `z_ij = scale a_i . b_j + bias` and `y_ij = 1` for positives, -1 for others:

        loss = - 1/n sum_i sum_j log sigmoid(y_ij z_ij)
             =   1/n (sum_ij log(1 + exp z_ij) - sum over positives of z_ij)

    (Zhai et al. 2023, arXiv 2303.15343, section 3.2; `n` is the number of rows of `a`.)

    Args:
        a: `(n, dim)`, usually unit vectors.
        b: `(m, dim)`.
        scale: Multiplies the dot products: a number, or one element with a gradient.
        bias: Added to them. At `log(p / (1 - p))`, p = fraction of positives (1/m), untrained vectors predict the right
            rate of positives.
        groups_a: `(n,)` integers; equal group = positive. Without groups `n` must be `m` and row i matches column i.
        groups_b: `(m,)`.

    Returns:
        Scalar, in float32 (float64 where an input is). Rows without a positive count: all their pairs are negatives.

    Raises:
        UserError: shapes or groups do not fit, or (on the CPU) got NaN or infinity.

    Example:
        >>> eye = torch.eye(4)
        >>> siglip_loss(eye, eye, 0.0, 0.0)  # 4 coin tosses a row: 4 log 2
        tensor(2.7726)
    """
    warn_own_rows("siglip_loss", "the objective siglip")
    return whole_siglip_loss(a, b, scale, bias, groups_a=groups_a, groups_b=groups_b)


def whole_siglip_loss(
    a: Tensor,
    b: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
) -> Tensor:
    """`siglip_loss`, for other losses that are it on other vectors."""
    a, b, scale = _wide(a, b, scale)
    groups_a, groups_b = _check(a, b, groups_a, groups_b)
    bias = torch.as_tensor(bias, dtype=a.dtype, device=a.device)
    return partial_siglip_loss(a * scale, b, bias, rows=slice(0, len(a)), groups_a=groups_a, groups_b=groups_b)


def partial_clip_loss(
    x: Tensor,
    b: Tensor,
    *,
    rows: slice,
    columns: slice,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
    merge: Callable[[Tensor], Tensor] | None = None,
    drop: TileMask | None = None,
) -> Tensor:
    """Part of a global batch's `clip_loss` that one process contributes; the parts sum to the whole.

    Args:
        x: `scale * a` of the rows in `rows` alone.
        b: All columns of the global batch.
        rows: Slice of the rows of `x` among all rows.
        columns: Slice of the columns that this process contributes.
        groups_a: Groups of *all* rows.
        groups_b: Groups of all columns.
        merge: Maps the column log-sum-exps over these rows to those over all rows; None: these are all.
        drop: Negatives that are left out; it must keep all positives.
    """
    lse_rows, lse_columns = dot_logsumexp(x, b, drop)
    if merge is not None:
        lse_columns = merge(lse_columns)
    positives = sum_positives(x, b, rows, groups_a, groups_b)
    # A row without positives may have a log-sum-exp of -inf (no column at all); a product would not keep it out.
    row_loss = torch.where(positives.of_rows[rows] > 0, lse_rows, 0.0).sum()
    column_loss = torch.where(positives.of_columns > 0, lse_columns, 0.0)[columns].sum()
    count_rows = (positives.of_rows > 0).sum().clamp(min=1)
    count_columns = (positives.of_columns > 0).sum().clamp(min=1)
    # sum_i mean_{j in P(i)} s_ij and sum_j mean_{i in P(j)} s_ij run over the same pairs with different weights.
    by_row = (positives.dots / positives.of_rows[rows].clamp(min=1)).sum()
    by_column = (positives.dots / positives.of_own_side.clamp(min=1)).sum()
    return ((row_loss - by_row) / count_rows + (column_loss - by_column) / count_columns) / 2


def partial_siglip_loss(
    x: Tensor,
    b: Tensor,
    bias: Tensor,
    *,
    rows: slice,
    groups_a: Tensor | None = None,
    groups_b: Tensor | None = None,
    count: int | None = None,
    drop: TileMask | None = None,
) -> Tensor:
    """Part of a global batch's `siglip_loss` that one process contributes; the parts sum to the whole.

    Args:
        x: `scale * a` of the rows in `rows` alone.
        b: All columns of the global batch.
        bias: One element.
        rows: Slice of the rows of `x` among all rows.
        groups_a: Groups of *all* rows.
        groups_b: Groups of all columns.
        count: Number of rows of the global batch; default: that of `x`.
        drop: Negatives that are left out; it must keep all positives.
    """
    positive_pairs = sum_positives(x, b, rows, groups_a, groups_b)
    positives = positive_pairs.dots.sum() + bias.sum() * positive_pairs.of_rows[rows].sum()
    if positives.device.type == "cpu" and not bool(positives.isfinite()):
        # The sum over all pairs is finite where every product with an infinite row is -infinity.
        raise not_finite()
    return (dot_softplus_sum(x, b, bias, drop) - positives) / max(len(x) if count is None else count, 1)


class PositiveSums(NamedTuple):
    """Sums over the positives of rows and columns."""

    dots: Tensor  # (own rows,): sum of x_i . b_j over the positives j of row i
    of_rows: Tensor  # (all rows,): number of positives of each row
    of_columns: Tensor  # (all columns,): number of positives of each column
    of_own_side: Tensor  # (own rows,): number of rows in row i's group = positives of each column in P(i)


def sum_positives(x: Tensor, b: Tensor, rows: slice, groups_a: Tensor | None, groups_b: Tensor | None) -> PositiveSums:
    """Dot products of each own row with its positives, summed, and the numbers of positives; as `partial_clip_loss`."""
    if groups_a is None or groups_b is None:
        ones = x.new_ones(len(b))
        return PositiveSums((x * b[rows]).sum(1), ones, ones, ones[rows])
    sorted_a, sorted_b = groups_a.sort().values, groups_b.sort().values
    of_rows, of_columns = occurrences(sorted_b, groups_a), occurrences(sorted_a, groups_b)
    own = groups_a[rows]
    if not len(b):
        return PositiveSums(x.sum(1) * 0.0, of_rows, of_columns, of_rows[rows])
    # The index of a group's first member in the sorted list numbers the groups of b below len(b), without a
    # synchronisation with the GPU for the number of groups.
    sums = torch.zeros_like(b).index_add(0, torch.searchsorted(sorted_b, groups_b), b)
    index = torch.searchsorted(sorted_b, own).clamp(max=len(b) - 1)
    dots = (x * sums[index]).sum(1) * (of_rows[rows] > 0)
    return PositiveSums(dots, of_rows, of_columns, occurrences(sorted_a, own))


def occurrences(ordered: Tensor, groups: Tensor) -> Tensor:
    """How often each of `groups` occurs in the sorted `ordered`, `(len(groups),)`."""
    return torch.searchsorted(ordered, groups, right=True) - torch.searchsorted(ordered, groups)


def _wide(a: Tensor, b: Tensor, scale: Tensor | float) -> tuple[Tensor, Tensor, Tensor | float]:
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype), scale.to(dtype) if isinstance(scale, Tensor) else scale


def _check(
    a: Tensor, b: Tensor, groups_a: Tensor | None, groups_b: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError(f"expected two matrices of one width, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if (groups_a is None) != (groups_b is None):
        raise UserError("groups_a and groups_b must be given together, or neither")
    if groups_a is None or groups_b is None:
        if len(a) != len(b):
            raise UserError(f"{len(a)} rows and {len(b)} columns: without groups there must be as many of each")
        return None, None
    if groups_a.shape != a.shape[:1] or groups_b.shape != b.shape[:1]:
        came = f"{tuple(groups_a.shape)} for {len(a)} rows and {tuple(groups_b.shape)} for {len(b)}"
        raise UserError(f"expected one group per row, got shapes {came}")
    return groups_a.contiguous(), groups_b.contiguous()
