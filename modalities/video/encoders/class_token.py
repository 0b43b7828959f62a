"""A transformer over a masked set of tokens with an optional class token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from modalities.common.encoders.transformer import Transformer, masked_mean

POOLS = ("class", "mean")


class PooledTransformer(nn.Module):
    """Layers over a variable number of tokens, and one vector for all of them.

    Masked tokens are never read; a sample without any token has the vector of the class token alone, or zeros.

    Args:
        width: Size of a token.
        depth: Layers; 0 = none.
        heads: Attention heads; must divide `width`.
        pool: class (a learnt token attends to the others) or mean (of the real tokens).
        drop_path: Probability that the last layer is skipped in training, less for those before it.

    Shape:
        `(batch, length, width)`, mask `(batch, length)` -> vector `(batch, width)`, tokens `(batch, length, width)`.

    Raises:
        UserError: an argument does not fit.

    Example:
        >>> layers = PooledTransformer(8, depth=1, heads=2, pool="class")
        >>> vector, tokens = layers(torch.zeros(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> vector.shape, tokens.shape
        (torch.Size([3, 8]), torch.Size([3, 5, 8]))
    """

    def __init__(self, width: int, *, depth: int, heads: int, pool: str, drop_path: float = 0.0) -> None:
        super().__init__()
        if pool not in POOLS:
            raise UserError(f"expected pool {' or '.join(POOLS)}, got {pool!r}")
        if width < 2 or width % 2 or depth < 0 or not 0 <= drop_path < 1:
            raise UserError(
                f"expected an even width, a depth of at least 0 and a drop_path in 0..1, "
                f"got width={width}, depth={depth}, drop_path={drop_path}"
            )
        self.layers = Transformer(width, depth=depth, heads=heads, drop_path=drop_path)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02) if pool == "class" else None

    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers once, and pool."""
        if self.class_token is None:
            # A sample without tokens would attend to nothing: its first, empty one is read and then left out.
            tokens = self.layers(values, torch.cat([mask[:, :1] | ~mask.any(1, keepdim=True), mask[:, 1:]], dim=1))
            return masked_mean(tokens, mask), tokens
        first = self.class_token.to(values.dtype).expand(values.shape[0], 1, -1)
        tokens = self.layers(torch.cat([first, values], dim=1), F.pad(mask, (1, 0), value=True))
        return tokens[:, 0], tokens[:, 1:]
