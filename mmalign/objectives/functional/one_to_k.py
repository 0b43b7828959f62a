"""One-to-K contrastive loss: several positives per row in one softmax."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.own_rows import warn_own_rows
from mmalign.objectives.functional.computing.tiled_logsumexp import dot_logsumexp
from mmalign.objectives.functional.contrastive import occurrences, sum_positives


def one_to_k_loss(a: Tensor, b: Tensor, scale: Tensor | float, owner: Tensor, *, normalise: bool = True) -> Tensor:
    """One-to-K contrastive loss: each row of `a` owns several rows of `b` (languages, views, sentences), its positives.

    With `s_ij = scale a_i . b_j`, `O(i) = {j : owner_j = i}` and `K_i = |O(i)|`:

        forth = mean over i with K_i > 0 of  w_i sum_{j in O(i)} (log sum_j' exp s_ij' - s_ij)
        back  = mean over j of               w_i (log sum_i' exp s_i'j - s_ij),   i = owner_j
        loss  = (forth + back) / 2,          w_i = 1/K_i  (normalise)  or  1

    (CCRK, KDD 2024.) The sum over the positives gives each of them full weight; with equal K for all rows, `normalise`
    divides the whole loss by K, `back` too, as published. With unequal K each row's terms are divided by its own K:
    `forth` is then the mean over positives, as in `clip_loss` with groups, and in `back` a row of many positives has
    the same weight as a row of one.

    The positives of a row compete in one softmax, so `forth` cannot reach 0: its least value is `K log K` (`log K`
    where normalised). With K = 1 this is `clip_loss`.

    Args:
        a: `(n, dim)`, usually unit vectors.
        b: `(m, dim)`, in any order.
        scale: Multiplies the dot products: a number, or one element with a gradient.
        owner: `(m,)` integers from 0 to n - 1: the row of `a` that each row of `b` belongs to.
        normalise: Whether to divide by K.

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where `b` is empty. Rows of `a` that own
        nothing are left out of the mean of `forth`; in `back` they are negatives.

    Raises:
        UserError: shapes do not fit, or (on the CPU) got NaN or infinity, or an owner that is no row of `a`.

    Example:
        >>> a, owner = torch.eye(3), torch.tensor([0, 0, 1, 1, 2, 2])
        >>> one_to_k_loss(a, a[owner], 100.0, owner)  # found: (log 2 + 0) / 2
        tensor(0.3466)
        >>> one_to_k_loss(a, a[owner], 100.0, owner, normalise=False)  # 2 log 2 / 2
        tensor(0.6931)
    """
    warn_own_rows("one_to_k_loss", "the objective one_to_k")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError(f"expected two matrices of one width, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if owner.shape != b.shape[:1] or owner.dtype.is_floating_point or owner.dtype == torch.bool:
        came = f"{tuple(owner.shape)} of {owner.dtype}"
        raise UserError(f"owner: expected an integer for each of the {len(b)} rows of b, got {came}")
    owner = owner.long()
    if owner.device.type == "cpu" and len(owner) and not 0 <= int(owner.min()) <= int(owner.max()) < len(a):
        raise UserError(f"owner: expected rows of a, 0 to {len(a) - 1}, got {int(owner.min())} to {int(owner.max())}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    b = b.to(dtype)
    x = a.to(dtype) * (scale.to(dtype) if isinstance(scale, Tensor) else scale)
    rows, columns = slice(0, len(x)), slice(0, len(b))
    of_rows = torch.arange(len(x), device=owner.device)
    return partial_one_to_k_loss(
        x, b, rows=rows, columns=columns, groups_a=of_rows, groups_b=owner, normalise=normalise
    )


def partial_one_to_k_loss(
    x: Tensor,
    b: Tensor,
    *,
    rows: slice,
    columns: slice,
    groups_a: Tensor,
    groups_b: Tensor,
    normalise: bool = True,
    merge: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Part of a global batch's one-to-K loss that one process contributes; the parts sum to the whole.

    Rows of one group share their positives, as in `clip_loss`. With `f_i = log sum_j exp s_ij` less the mean of `s_ij`
    over the positives of row i, `g_j` the same of columns, and K the number of columns per row of a group,

        loss = (mean over i with K > 0 of w K f_i + mean over j of w g_j) / 2,    w = 1/K  (normalise)  or  1

    Args:
        x: `scale * a` of the rows in `rows` alone.
        b: All columns of the global batch.
        rows: Slice of the rows of `x` among all rows.
        columns: Slice of the columns that this process contributes.
        groups_a: Groups of *all* rows.
        groups_b: Groups of all columns, those of the rows that own them.
        normalise: Whether to divide by K.
        merge: Maps the column log-sum-exps over these rows to those over all rows; None: these are all.
    """
    lse_rows, lse_columns = dot_logsumexp(x, b)
    if merge is not None:
        lse_columns = merge(lse_columns)
    positives = sum_positives(x, b, rows, groups_a, groups_b)
    owned = positives.of_rows[rows]
    # A row that owns nothing may have a log-sum-exp of -inf (no column at all); a product would not keep it out.
    row_losses = torch.where(owned > 0, lse_rows, 0.0) - positives.dots / owned.clamp(min=1)  # f_i
    column_losses = torch.where(positives.of_columns > 0, lse_columns, 0.0)
    # sum_j w_j mean_{i in P(j)} s_ij runs over the same pairs as the rows; w and K are equal within a group.
    if normalise:
        by_column = positives.dots / owned.clamp(min=1)
        column_losses = column_losses * positives.of_columns / occurrences(groups_b.sort().values, groups_b)
    else:
        by_column = positives.dots / positives.of_own_side
        row_losses = row_losses * owned / positives.of_own_side
    count_rows = (positives.of_rows > 0).sum().clamp(min=1)
    count_columns = (positives.of_columns > 0).sum().clamp(min=1)
    back = column_losses[columns].sum() - by_column.sum()
    return (row_losses.sum() / count_rows + back / count_columns) / 2
