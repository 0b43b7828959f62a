"""Random masking of tokens for masked pretraining."""

import torch
from torch import Generator, Tensor


def hidden_tokens(mask: Tensor, share: float, generator: Generator | None = None) -> Tensor:
    """Choose a random fraction of each sample's real tokens to mask.

    Args:
        mask: True = real, `(batch, length)`.
        share: Fraction in (0, 1); counts are rounded, and at least one real token stays unmasked.
        generator: Random generator on the CPU; None = torch's global one.

    Returns:
        True = masked, `(batch, length)`.

    Example:
        >>> mask = torch.tensor([[True, True, True, True, False, False]])
        >>> chosen = hidden_tokens(mask, 0.5)
        >>> chosen.sum(1), (chosen & ~mask).any()
        (tensor([2]), tensor(False))
    """
    draws = torch.rand(mask.shape, generator=generator).to(mask.device)
    order = draws.masked_fill(~mask, 2.0).argsort(1).argsort(1)  # the real ones first
    real = mask.sum(1, keepdim=True)
    return order < torch.minimum((share * real).round(), (real - 1).clamp(min=0))
