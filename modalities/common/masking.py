"""Which tokens pretraining hides."""

import torch
from torch import Generator, Tensor


def hidden_tokens(mask: Tensor, share: float, generator: Generator | None = None) -> Tensor:
    """Choose a share of each sample's real tokens at random.

    Args:
        mask: True = real, `(batch, length)`.
        share: In (0, 1); counts are rounded, and one real token is always left.
        generator: Of the CPU; None = torch's own.

    Returns:
        True = hidden, `(batch, length)`.

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
