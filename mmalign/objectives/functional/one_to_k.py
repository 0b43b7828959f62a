"""One-to-K contrastive loss: several positives per row in one softmax."""

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.own_rows import warn_own_rows
from mmalign.objectives.functional.tiled_logsumexp import dot_logsumexp


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
    warn_own_rows("one_to_k_loss", "the objective clip, with the owners as groups,")
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

    lse_rows, lse_columns = dot_logsumexp(x, b)
    owned = x.new_zeros(len(x)).index_add(0, owner, x.new_ones(len(b)))  # K
    weight = 1 / owned.clamp(min=1) if normalise else torch.ones_like(owned)
    rows, columns = (owned > 0).sum().clamp(min=1).to(dtype), max(len(b), 1)
    of_column = weight[owner]
    # A row that owns nothing may have a log-sum-exp of -inf (no column at all); a product would not keep it out.
    forth = (torch.where(owned > 0, lse_rows, 0.0) * owned * weight).sum() / rows
    back = (of_column * lse_columns).sum() / columns
    # Both parts take s_ij from the same pairs: one dot product per row, with the weighted sum of the rows it owns.
    sums = torch.zeros_like(x).index_add(0, owner, b * (of_column * (1 / rows + 1 / columns))[:, None])
    return (forth + back - (x * sums).sum()) / 2
