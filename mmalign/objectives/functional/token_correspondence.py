"""Token correspondence of one pair of samples, `(tokens_a, tokens_b)`, as each objective defines it."""

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.token_checks import check_token_pair

SHARPNESS = 0.5
"""Temperature of `code_shares`, as a fraction of the standard deviation of a code's scores over the tokens."""


def alike(tokens_a: Tensor, mask_a: Tensor, tokens_b: Tensor, mask_b: Tensor) -> tuple[Tensor, Tensor]:
    """Dot products of the tokens of two samples, and a mask of those between real tokens.

    Args:
        tokens_a: `(length_a, dim)`. Padding is never read, NaN included.
        mask_a: `(length_a,)`, True = real.
        tokens_b: `(length_b, dim)`.
        mask_b: `(length_b,)`.

    Returns:
        `(length_a, length_b)` in float32 (float64 where an input is), 0 at padding; and the boolean mask.

    Raises:
        UserError: shapes do not fit, or (on the CPU) a real token holds NaN or infinity.
    """
    check_token_pair(tokens_a, mask_a, tokens_b, mask_b, batched=False)
    dtype = torch.promote_types(torch.promote_types(tokens_a.dtype, tokens_b.dtype), torch.float32)
    a = tokens_a.to(dtype).masked_fill(~mask_a[:, None], 0.0)
    b = tokens_b.to(dtype).masked_fill(~mask_b[:, None], 0.0)
    if a.device.type == "cpu" and not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        raise UserError("expected finite tokens wherever the mask is True, got NaN or infinity")
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.T, mask_a[:, None] & mask_b[None]


def best_partners(dots: Tensor, real: Tensor) -> Tensor:
    """Correspondence of late interaction: the best match of each token, averaged over both directions.

        M_kr = ([r = argmax_r' <k, r'>] / real tokens of a  +  [k = argmax_k' <k', r>] / real tokens of b) / 2

    so that `sum_kr M_kr <k, r>` is the mean of both scores of FILIP (arXiv 2111.07783, equations 4 and 5). Among equal
    maxima the first one counts.

    Args:
        dots: `(length_a, length_b)`.
        real: `(length_a, length_b)`, True between real tokens.

    Returns:
        `(length_a, length_b)`, not negative, sum 1; all 0 where a sample has no real token.

    Example:
        >>> best_partners(torch.tensor([[0.9, 0.1], [0.8, 0.3]]), torch.ones(2, 2, dtype=torch.bool))
        tensor([[0.5000, 0.0000],
                [0.2500, 0.2500]])
    """
    if not real.any():
        return torch.zeros_like(dots)
    far = dots.masked_fill(~real, -torch.inf)
    forth = torch.zeros_like(dots).scatter_(1, far.argmax(1, keepdim=True), 1.0)
    back = torch.zeros_like(dots).scatter_(0, far.argmax(0, keepdim=True), 1.0)
    return (_even(forth, real) + _even(back, real)) / 2


def positive_shares(dots: Tensor, real: Tensor) -> Tensor:
    """Correspondence of the mean similarity: the positive dot products, scaled to sum 1.

    Args:
        dots: `(length_a, length_b)`.
        real: `(length_a, length_b)`, True between real tokens.

    Returns:
        `(length_a, length_b)`, not negative, sum 1; all 0 where no dot product is positive.

    Example:
        >>> positive_shares(torch.tensor([[0.6, -0.5], [0.2, 0.0]]), torch.ones(2, 2, dtype=torch.bool))
        tensor([[0.7500, 0.0000],
                [0.2500, 0.0000]])
    """
    return _even(dots.clamp(min=0), real)


def attention_shares(dots: Tensor, real: Tensor, temperature: float) -> Tensor:
    """Correspondence of attention: softmax weights of the dot products, averaged over both directions.

        M_kr = (softmax_r(<k, r> / temperature) / real tokens of a + softmax_k(<k, r> / temperature) / those of b) / 2

    Args:
        dots: `(length_a, length_b)`.
        real: `(length_a, length_b)`, True between real tokens.
        temperature: Divides the dot products.

    Returns:
        `(length_a, length_b)`, not negative, sum 1; all 0 where a sample has no real token.

    Example:
        >>> attention_shares(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool), 0.1)
        tensor([[0.2500, 0.2500],
                [0.2500, 0.2500]])
    """
    far = (dots / temperature).masked_fill(~real, -torch.inf)
    return (_even(far.softmax(1).nan_to_num(), real) + _even(far.softmax(0).nan_to_num(), real)) / 2


def code_shares(queries: Tensor, mask: Tensor, codebook: Tensor, weights: Tensor) -> Tensor:
    """Contribution of each token to a sample's weights over the codes, by the token's score for the code.

        W_tk = w_k softmax_t(s_tk / (c sd_t(s_tk))),    s_tk = <q_t, C_k>,    c = 0.5,    sum_t W_tk = w_k

    In FDT (arXiv 2303.14865) the score of a code is the maximum over the tokens. The limit c -> 0 assigns the code to
    that token alone, and leaves tokens with nearly the same score, such as a second word of the same meaning, without
    weight. With `W` for both towers, `W_a W_b^T` sums to `<w_a, w_b>`, the code overlap of two samples.

    Args:
        queries: Query of each token, `(length, dim)`.
        mask: `(length,)`, True = real.
        codebook: `(codes, dim)`.
        weights: The sample's weights `w`, `(codes,)`.

    Returns:
        `(length, codes)`; rows of padding are 0.

    Example:
        >>> code_shares(torch.eye(3)[:2], torch.ones(2, dtype=torch.bool), torch.eye(3), torch.tensor([0.75, 0.25, 0]))
        tensor([[0.7365, 0.0045, 0.0000],
                [0.0135, 0.2455, 0.0000]])
    """
    scores, real = alike(queries, mask, codebook, mask.new_ones(len(codebook)))
    if not real.any():
        return torch.zeros_like(scores)
    spread = scores[mask].std(dim=0, correction=0)
    below = scores - scores.masked_fill(~real, -torch.inf).amax(dim=0)
    scaled = below / (SHARPNESS * spread).clamp(min=torch.finfo(scores.dtype).tiny)
    return scaled.masked_fill(~real, -torch.inf).softmax(dim=0) * weights.to(scores)


def _even(each: Tensor, real: Tensor) -> Tensor:
    """Rescale rows or columns that each sum to one, so that the matrix sums to one; 0 at padding."""
    unpadded = each.masked_fill(~real, 0.0)
    return unpadded / unpadded.sum().clamp(min=torch.finfo(each.dtype).tiny)
