"""Temporal pooling: optional transformer layers over time, then mean or attention pooling."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.types import Features, Tokens
from modalities.common.encoders.transformer import AttentionPool, Transformer, masked_mean

POOLS = ("mean", "attention")


class TemporalPool(nn.Module):
    """Pool frames over time, ignoring masked frames.

    Pooling alone is invariant to the order of frames; layers use it, by sinusoidal position embeddings.

    Args:
        width: Size of a frame's vector.
        pool: mean or attention.
        layers: Layers of a transformer over the frames before pooling; 0 = none, tokens are the input frames.
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
            raise UserError(f"pool must be mean or attention, got {pool!r}")
        if layers < 0 or (layers and width % 2):
            raise UserError(f"layers must be at least 0 and the width even, got layers={layers}, width={width}")
        self.layers = Transformer(width, depth=layers, heads=heads) if layers else None
        self.pool = AttentionPool(width, heads) if pool == "attention" else None

    def forward(self, values: Tensor, mask: Tensor) -> Features:
        """Pool."""
        if self.layers is not None:
            values = self.layers(values + sines(values), mask)
        vector = self.pool(values, mask) if self.pool is not None else masked_mean(values, mask)
        return Features(vector, Tokens(values, mask))


def sines(values: Tensor) -> Tensor:
    """Sinusoidal position embeddings in time (Vaswani et al. 2017, section 3.5), `(time, width)`."""
    time, width = values.shape[-2:]
    half = torch.arange(width // 2, device=values.device)
    angles = torch.arange(time, device=values.device)[:, None] * 10000.0 ** (-half / (width // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(values.dtype)
