"""Frames to one vector: a few layers of attention over time where wanted, then a mean or an attention pool."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.types import Features, Tokens
from modalities.common.transformer import AttentionPool, Transformer, masked_mean

POOLS = ("mean", "attention")


class TemporalPool(nn.Module):
    """Pool frames over time; masked frames are not looked at.

    A mean or an attention pool alone does not see the order of frames; layers do, by sines of the frame's place.

    Args:
        width: Numbers a frame.
        pool: mean or attention.
        layers: Layers of a transformer over the frames before the pool; 0 = none, tokens are the frames as they came.
        heads: Attention heads; must divide `width` where there is attention.

    Shape:
        values `(batch, time, width)`, mask `(batch, time)` -> vector `(batch, width)`, a token for each frame.

    Example:
        >>> pool = TemporalPool(4, pool="mean", layers=0, heads=1)
        >>> frames, mask = torch.ones(1, 3, 4), torch.tensor([[True, True, False]])
        >>> pool(frames, mask).vector
        tensor([[1., 1., 1., 1.]])
    """

    def __init__(self, width: int, *, pool: str, layers: int, heads: int) -> None:
        super().__init__()
        if pool not in POOLS:
            raise UserError(f"echo: pool must be mean or attention, got {pool!r}")
        if layers < 0 or (layers and width % 2):
            raise UserError(f"echo: layers must be at least 0 and the width even, got layers={layers}, width={width}")
        if pool == "attention" and width % heads:
            raise UserError(f"heads must divide width, got heads={heads} and width={width}")
        self.layers = Transformer(width, depth=layers, heads=heads) if layers else None
        self.pool = AttentionPool(width, heads) if pool == "attention" else None

    def forward(self, values: Tensor, mask: Tensor) -> Features:
        """Pool."""
        if self.layers is not None:
            values = self.layers(values + sines(values), mask)
        vector = self.pool(values, mask) if self.pool is not None else masked_mean(values, mask)
        return Features(vector, Tokens(values, mask))


def sines(values: Tensor) -> Tensor:
    """Places in time as sines and cosines (Vaswani et al. 2017, section 3.5), `(time, width)`."""
    time, width = values.shape[-2:]
    half = torch.arange(width // 2, device=values.device)
    angles = torch.arange(time, device=values.device)[:, None] * 10000.0 ** (-half / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(values.dtype)
