"""Late interaction (FILIP): mean of token-wise maximum similarities, computed in tiles."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.tiled_logsumexp import TILE
from mmalign.objectives.functional.computing.token_checks import check_token_pair

# Added to the dot products of padded tokens. Finite, so that a weight of zero cancels it.
_FAR = -1e30


def late_interaction(tokens_a: Tensor, mask_a: Tensor, tokens_b: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
    """Late-interaction scores of all pairs of samples, in both directions.

    With `<k, r>` the dot product of token k of `a_i` and token r of `b_j`:

        forth_ij = mean over real k of  max over real r of <k, r>
        back_ij  = mean over real r of  max over real k of <k, r>

    (Yao et al. 2021, FILIP, arXiv 2111.07783, equations 4 and 5.) The two differ: a loss takes `forth` along its rows
    and `back` along its columns. Tokens are usually unit vectors; the masks select the tokens that count (first, last,
    special ones). Padding enters neither a maximum nor a mean and is never read.

    The dot products are computed a tile at a time; backward stores only the indices of the maxima, and computes two
    matrix products.

    Args:
        tokens_a: `(n, length_a, dim)`.
        mask_a: `(n, length_a)`, True = real.
        tokens_b: `(m, length_b, dim)`.
        mask_b: `(m, length_b)`.

    Returns:
        `forth (n, m)`, `back (n, m)`, in float32 (float64 where an input is). A sample without a real token has score 0
        with everything, and no gradient. Among equal maxima, one receives the gradient.

    Raises:
        UserError: shapes do not fit, or (on the CPU) a real token holds NaN or infinity.

    Example:
        >>> a, b = torch.eye(3)[None], torch.eye(3)[None, :1]
        >>> forth, back = late_interaction(a, torch.ones(1, 3).bool(), b, torch.ones(1, 1).bool())
        >>> forth, back  # one of three tokens of a finds its like; the one token of b does
        (tensor([[0.3333]]), tensor([[1.]]))
    """
    check_token_pair(tokens_a, mask_a, tokens_b, mask_b)
    dtype = torch.promote_types(torch.promote_types(tokens_a.dtype, tokens_b.dtype), torch.float32)
    a = torch.where(mask_a[:, :, None], tokens_a.to(dtype), 0.0)
    b = torch.where(mask_b[:, :, None], tokens_b.to(dtype), 0.0)
    if a.device.type == "cpu" and not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        raise UserError("late interaction expected finite tokens wherever the mask is True, got NaN or infinity")
    return _LateInteraction.apply(a, mask_a, b, mask_b)  # type: ignore[no-any-return]


def keep_best_tokens(
    tokens: Tensor, mask: Tensor, partner: Tensor, partner_mask: Tensor, keep: float
) -> tuple[Tensor, Tensor]:
    """The tokens of each sample that are most similar to a token of its partner.

    Of `n` real tokens the `ceil(keep n)` with the largest `max over real r of <k, r>` are kept, in their order; among
    equal ones, the first. The choice has no gradient. (FILIP, arXiv 2111.07783, section 3.1: only these tokens are
    communicated between processes.)

    Args:
        tokens: `(batch, length, dim)`.
        mask: `(batch, length)`, True = real. Padding is never read.
        partner: Tokens of each sample's partner, `(batch, length_partner, dim)`.
        partner_mask: `(batch, length_partner)`.
        keep: Fraction of the real tokens, above 0 and at most 1; a sample with real tokens keeps at least one.

    Returns:
        Tokens `(batch, longest, dim)` and their mask.

    Raises:
        UserError: shapes do not fit, or `keep` is no such fraction.

    Example:
        >>> tokens, partner = torch.eye(4)[None], torch.eye(4)[None, 2:3]
        >>> real = torch.ones(1, 4).bool()
        >>> keep_best_tokens(tokens, real, partner, real[:, :1], 0.25)[0]
        tensor([[[0., 0., 1., 0.]]])
    """
    check_token_pair(tokens, mask, partner, partner_mask)
    if not 0 < keep <= 1:
        raise UserError(f"keep: expected a fraction above 0 and at most 1, got {keep}")
    dtype = torch.promote_types(torch.promote_types(tokens.dtype, partner.dtype), torch.float32)
    with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
        own, other = (
            torch.where(one_mask[:, :, None], one.to(dtype), 0.0)
            for one, one_mask in ((tokens, mask), (partner, partner_mask))
        )
        dots = (own @ other.mT).masked_fill(~partner_mask[:, None], -torch.inf)
        best = torch.cat([dots, dots.new_full((*dots.shape[:2], 1), _FAR)], 2).amax(2).masked_fill(~mask, -torch.inf)
        counts = (mask.sum(1) * keep).ceil().long()
        chosen = torch.empty_like(mask).scatter_(
            1,
            best.sort(dim=1, descending=True, stable=True).indices,
            torch.arange(mask.shape[1], device=mask.device) < counts[:, None],
        )
        longest = int(counts.max()) if len(counts) else 0
        places = chosen.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :longest]
        kept = torch.arange(longest, device=mask.device) < counts[:, None]
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2])), kept


class _LateInteraction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, mask_a: Tensor, b: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
        (n, length_a, _), (m, length_b, _) = a.shape, b.shape
        forth, back = a.new_zeros(n, m), a.new_zeros(n, m)
        weight_a, weight_b = _weights(mask_a, a.dtype), _weights(mask_b, a.dtype)
        learns = any(ctx.needs_input_grad)
        small = torch.int16 if max(length_a, length_b) < 2**15 else torch.int32
        best_b = torch.empty((n, length_a, m) if learns else 0, dtype=small, device=a.device)
        best_a = torch.empty((n, m, length_b) if learns else 0, dtype=small, device=a.device)
        with torch.autocast(a.device.type, enabled=False):
            # Two additional entries in each vector apply the masks in the product: real tokens add exactly 0.
            far_a, far_b = _far(mask_a, a.dtype), _far(mask_b, a.dtype)
            wide_a = torch.cat([a, far_a, torch.ones_like(far_a)], 2)
            wide_b = torch.cat([b, torch.ones_like(far_b), far_b], 2)
            for rows, columns in _tiles(a, b):
                dots = _dots(wide_a[rows], wide_b[columns])
                top_b, at_b = dots.max(3)
                top_a, at_a = dots.max(1)
                forth[rows, columns] = (top_b * weight_a[rows, :, None]).sum(1)
                back[rows, columns] = (top_a * weight_b[None, columns]).sum(2)
                if learns:
                    best_b[rows, :, columns], best_a[rows, columns] = at_b.to(small), at_a.to(small)
        some = mask_a.any(1)[:, None] & mask_b.any(1)[None, :]
        ctx.save_for_backward(a, b, weight_a, weight_b, some, best_b, best_a)
        return torch.where(some, forth, 0.0), torch.where(some, back, 0.0)

    @staticmethod
    def backward(ctx: Any, grad_forth: Tensor, grad_back: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise UserError("late interaction has no second derivative; call backward without create_graph=True")
        a, b, weight_a, weight_b, some, best_b, best_a = ctx.saved_tensors
        grad_forth, grad_back = (torch.where(some, grad, 0.0) for grad in (grad_forth, grad_back))
        grad_a = torch.zeros_like(a) if ctx.needs_input_grad[0] else None
        grad_b = torch.zeros_like(b) if ctx.needs_input_grad[2] else None
        with torch.autocast(a.device.type, enabled=False):
            for rows, columns in _tiles(a, b):
                here_a, here_b = a[rows], b[columns]
                shape = (len(here_a), a.shape[1], len(here_b), b.shape[1])
                forth = grad_forth[rows, None, columns] * weight_a[rows, :, None]
                back = grad_back[rows, columns, None] * weight_b[None, columns]
                slopes = a.new_zeros(shape)
                slopes.scatter_(3, best_b[rows, :, columns, None].long(), forth[:, :, :, None])
                slopes.scatter_add_(1, best_a[rows, None, columns].long(), back[:, None])
                flat = slopes.view(shape[0] * shape[1], shape[2] * shape[3])
                if grad_a is not None:
                    grad_a[rows] += (flat @ here_b.flatten(0, 1)).view_as(here_a)
                if grad_b is not None:
                    grad_b[columns] += (flat.T @ here_a.flatten(0, 1)).view_as(here_b)
        return grad_a, None, grad_b, None


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return (a.flatten(0, 1) @ b.flatten(0, 1).T).view(len(a), a.shape[1], len(b), b.shape[1])


def _tiles(a: Tensor, b: Tensor) -> Iterator[tuple[slice, slice]]:
    if not a.shape[1] or not b.shape[1]:
        return  # no token: every score is 0
    tile = TILE.get(a.device.type, 4096)
    height, width = max(1, tile // a.shape[1]), max(1, tile // b.shape[1])
    for top in range(0, len(a), height):
        for left in range(0, len(b), width):
            yield slice(top, min(top + height, len(a))), slice(left, min(left + width, len(b)))


def _weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return mask.to(dtype) / mask.sum(1, keepdim=True).clamp(min=1)


def _far(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(mask, 0.0, _FAR).to(dtype)[:, :, None]
