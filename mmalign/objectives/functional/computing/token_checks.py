"""Checks of tokens and their masks."""

import torch
from torch import Tensor

from mmalign.errors import UserError


def check_tokens(name: str, tokens: Tensor, mask: Tensor, *, batched: bool = True) -> None:
    """Check that tokens have a boolean mask of their shape.

    Args:
        name: The tower, a or b, for the message.
        tokens: `(batch, length, dim)`; without `batched` `(length, dim)`.
        mask: `(batch, length)`, True = real; without `batched` `(length,)`.
        batched: Whether there is a batch dimension.

    Raises:
        UserError: a shape or a type does not fit.

    Example:
        >>> check_tokens("a", torch.ones(3, 4), torch.ones(3), batched=False)
        Traceback (most recent call last):
        mmalign.errors.UserError: tower a: expected tokens (length, dim) and a boolean mask (length,), got (3, 4) and \
(3,) of torch.float32
    """
    if tokens.ndim != 2 + batched or mask.shape != tokens.shape[:-1] or mask.dtype != torch.bool:
        shapes = "(batch, length, dim)", "(batch, length)"
        expected, of_mask = shapes if batched else ("(length, dim)", "(length,)")
        came = f"{tuple(tokens.shape)} and {tuple(mask.shape)} of {mask.dtype}"
        raise UserError(f"tower {name}: expected tokens {expected} and a boolean mask {of_mask}, got {came}")


def check_token_pair(
    tokens_a: Tensor, mask_a: Tensor, tokens_b: Tensor, mask_b: Tensor, *, batched: bool = True
) -> None:
    """Check the tokens of both towers, and that their widths are equal.

    Args:
        tokens_a: As in `check_tokens`.
        mask_a: Their mask.
        tokens_b: The other tower's tokens.
        mask_b: Their mask.
        batched: Whether there is a batch dimension.

    Raises:
        UserError: a shape or a type does not fit.
    """
    check_tokens("a", tokens_a, mask_a, batched=batched)
    check_tokens("b", tokens_b, mask_b, batched=batched)
    if tokens_a.shape[-1] != tokens_b.shape[-1]:
        raise UserError(f"expected tokens of one width, got {tokens_a.shape[-1]} and {tokens_b.shape[-1]}")
