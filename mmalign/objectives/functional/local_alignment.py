"""Token-level contrastive loss within a sample (MGCA)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.matmul import dot_products
from mmalign.objectives.functional.computing.token_checks import check_tokens

# Logit of a padded token. Finite, so that a sample of padding only has zero gradients rather than NaN.
_FAR = -1e30


def local_alignment_loss(
    tokens_a: Tensor,
    mask_a: Tensor,
    tokens_b: Tensor,
    mask_b: Tensor,
    *,
    attention_temperature: float = 0.1,
    temperature: float = 0.1,
    weights_a: Tensor | None = None,
    weights_b: Tensor | None = None,
) -> Tensor:
    """Token-level contrastive loss (MGCA): each token against the attended vectors of its sample's tokens.

    Each token attends to the other tower's tokens; its attended vector is the positive, those of the sample's other
    tokens are negatives. With x_t the tokens of one tower and y_k those of the other, all unit vectors:

        c_t    = unit(sum_k softmax_k(x_t . y_k / attention_temperature) y_k)
        s_tu   = x_t . c_u / temperature
        tower  = 1/2 sum_t w_t (log sum_u exp s_tu + log sum_u exp s_ut - 2 s_tt),     sum_t w_t = 1
        sample = tower with x from a  +  tower with x from b

    and the loss is the mean over the samples that have real tokens of both towers (Wang et al. 2022, MGCA, arXiv
    2210.06044, its token-wise alignment, without learnt attention matrices, as released). No token is compared with
    other samples. The released weights are the last layer's attention from the class token, clipped to its 10 % and
    90 % quantiles.

    Args:
        tokens_a: `(batch, length_a, dim)`; normalised here.
        mask_a: `(batch, length_a)`, True = real. Padding is never read, NaN included.
        tokens_b: `(batch, length_b, dim)`.
        mask_b: `(batch, length_b)`.
        attention_temperature: Divides the dot products of the attention.
        temperature: Divides the dot products of the contrastive softmax.
        weights_a: `(batch, length_a)`, token weights: at least 0, of any sum, without a gradient; default: equal for
            all real tokens. A tower whose weights are all 0 adds nothing.
        weights_b: `(batch, length_b)`.

    Returns:
        Scalar, in float32 (float64 where an input is); zero, with a graph, where no sample has tokens of both towers.

    Raises:
        UserError: shapes do not fit, a temperature is not above 0, or (on the CPU) a real token or weight holds NaN or
            infinity, or a weight is negative.

    Example:
        >>> same, real = torch.eye(4)[None], torch.ones(1, 4).bool()
        >>> local_alignment_loss(same, real, same, real)  # each token finds itself in the other tower
        tensor(0.0003)
        >>> alike = same[:, :1].expand(1, 4, 4)  # nothing to tell apart: 2 log 4
        >>> local_alignment_loss(alike, real, alike, real)
        tensor(2.7726)
    """
    each, counts = local_alignment(
        tokens_a,
        mask_a,
        tokens_b,
        mask_b,
        attention_temperature=attention_temperature,
        temperature=temperature,
        weights_a=weights_a,
        weights_b=weights_b,
    )
    return each.sum() / counts.sum().clamp(min=1)


def local_alignment(
    tokens_a: Tensor,
    mask_a: Tensor,
    tokens_b: Tensor,
    mask_b: Tensor,
    *,
    attention_temperature: float = 0.1,
    temperature: float = 0.1,
    weights_a: Tensor | None = None,
    weights_b: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`local_alignment_loss` of each sample, `(batch,)`, and a mask of the samples that count; the others have 0."""
    for name, value in (("attention_temperature", attention_temperature), ("temperature", temperature)):
        if not 0 < value < math.inf:
            raise UserError(f"{name}: expected a number above 0, got {value}")
    a, b = unit_tokens("a", tokens_a, mask_a), unit_tokens("b", tokens_b, mask_b)
    if len(a) != len(b) or a.shape[2] != b.shape[2]:
        raise UserError(f"expected as many samples of one width, got {tuple(a.shape)} and {tuple(b.shape)}")
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = a.to(dtype), b.to(dtype)
    looks = dot_products(a, b) / attention_temperature
    counts = mask_a.any(1) & mask_b.any(1)
    of_a = _one_direction(a, mask_a, b, mask_b, looks, temperature, _weights("a", weights_a, mask_a, dtype))
    of_b = _one_direction(b, mask_b, a, mask_a, looks.mT, temperature, _weights("b", weights_b, mask_b, dtype))
    return torch.where(counts, of_a + of_b, 0.0), counts


def clip_quantiles(weights: Tensor, mask: Tensor, low: float = 0.1, high: float = 0.9) -> Tensor:
    """Token weights clipped to two quantiles of their sample's real tokens (MGCA's weights, arXiv 2210.06044).

    Args:
        weights: `(batch, length)`.
        mask: `(batch, length)`, True = real. Padding is never read, NaN included.
        low: Lower quantile, linearly interpolated.
        high: Upper quantile.

    Returns:
        `(batch, length)`, 0 at padding, in float32 (float64 where the weights are).

    Example:
        >>> clip_quantiles(torch.arange(10.0)[None], torch.ones(1, 10, dtype=torch.bool))[0, [0, 5, 9]]
        tensor([0.9000, 5.0000, 8.1000])
    """
    if weights.shape != mask.shape or not 0 <= low <= high <= 1:
        raise UserError(
            f"clip_quantiles: expected weights and a mask of one shape and 0 <= low <= high <= 1, got "
            f"{tuple(weights.shape)}, {tuple(mask.shape)}, {low} and {high}"
        )
    values = weights.detach().to(torch.promote_types(weights.dtype, torch.float32))
    if not values.numel():
        return values
    real = values.masked_fill(~mask, math.nan)
    least, most = (torch.nanquantile(real, quantile, dim=1, keepdim=True) for quantile in (low, high))
    return torch.where(mask, torch.minimum(torch.maximum(values, least), most), 0.0)


def unit_tokens(name: str, tokens: Tensor, mask: Tensor) -> Tensor:
    """Real tokens normalised, padding zero; float32 (float64 where the tokens are)."""
    check_tokens(name, tokens, mask)
    values = torch.where(mask[:, :, None], tokens.to(torch.promote_types(tokens.dtype, torch.float32)), 0.0)
    if values.device.type == "cpu" and not bool(values.isfinite().all()):
        raise UserError(f"tower {name}: expected finite tokens wherever the mask is True, got NaN or infinity")
    return F.normalize(values, dim=2, eps=1e-8)


def _one_direction(
    own: Tensor, real: Tensor, other: Tensor, other_real: Tensor, looks: Tensor, temperature: float, weights: Tensor
) -> Tensor:
    attention = torch.where(other_real[:, None], looks, _FAR).softmax(2)  # (batch, own, other)
    seen = F.normalize(dot_products(attention, other.mT), dim=2, eps=1e-8)
    scores = dot_products(own, seen) / temperature  # (batch, own, own)
    right = scores.diagonal(dim1=1, dim2=2)
    scores = torch.where(real[:, :, None] & real[:, None], scores, _FAR)
    each = (scores.logsumexp(1) + scores.logsumexp(2)) / 2 - right
    return (each * weights).sum(1)  # pads have weight 0


def _weights(name: str, weights: Tensor | None, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if weights is None:
        return mask.to(dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    if weights.shape != mask.shape:
        raise UserError(f"weights_{name}: expected shape {tuple(mask.shape)}, got {tuple(weights.shape)}")
    weights = torch.where(mask, weights.detach().to(dtype), 0.0)
    if weights.device.type == "cpu" and not bool(((weights >= 0) & weights.isfinite()).all()):
        raise UserError(f"weights_{name}: expected weights of at least 0, got a negative one, NaN or infinity")
    return weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)
