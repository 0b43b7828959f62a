"""A perceiver that turns the rows of each trajectory into one vector."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from modalities.common.encoders.transformer import demand_heads


class CrossAttention(nn.Module):
    r"""One vector attends to itself and to its rows.

    .. math:: x + W_o \left[ W_v^h \sum_t a^h_t y_t \right]_h + b_o, \quad
              a^h = \mathrm{softmax}_t \left( (W_q^h \mathrm{LN}(x))^\top W_k^h y_t / \sqrt{d} \right)

    with y the norms of x and of the rows. With one query, it is cheaper to project the query to the rows and their mean
    to values than to project every row to keys and values; the function is the same.

    Args:
        width: Size of the vector and of a row.
        heads: Attention heads; must divide `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm_vector, self.norm_rows = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, vector: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
        """Attend; `vector (n, width)`, `rows (n, length, width)`, `bias (n, length)` is added to the scores."""
        own = self.norm_vector(vector)
        keys = torch.cat([own[:, None], self.norm_rows(rows)], dim=1)
        query = torch.unflatten(self.query(own), 1, (self.heads, -1))  # (n, heads, d)
        asked = torch.einsum("nhd,hdw->nhw", query, torch.unflatten(self.key.weight, 0, (self.heads, -1)))
        scores = torch.bmm(asked, keys.transpose(1, 2)) * self.scale
        scores = scores + nn.functional.pad(bias, (1, 0))[:, None].to(scores.dtype)
        mixed = torch.bmm(scores.softmax(2), keys)  # (n, heads, width)
        values = torch.einsum("nhw,hdw->nhd", mixed, torch.unflatten(self.value.weight, 0, (self.heads, -1)))
        return vector + self.out(values.flatten(1) + self.value.bias)  # type: ignore[no-any-return]


class Resampler(nn.Module):
    """A learnt vector attends to itself and to the real rows, layer by layer (Perceiver, arXiv 2103.03206; TrajViT).

    A trajectory without rows has the vector that depends on no row.

    Args:
        width: Size of a row.
        depth: Layers.
        heads: Attention heads; must divide `width`.

    Shape:
        rows `(n, length, width)`, mask `(n, length)` -> `(n, width)`.

    Raises:
        UserError: `depth` is below 1, or `heads` does not divide `width`.

    Example:
        >>> Resampler(8, depth=2, heads=2)(torch.zeros(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)).shape
        torch.Size([3, 8])
    """

    def __init__(self, width: int, *, depth: int, heads: int) -> None:
        super().__init__()
        demand_heads(width, heads)
        if depth < 1:
            raise UserError(f"video: expected resampler_depth of at least 1, got {depth}")
        self.latent = nn.Parameter(torch.randn(width) * 0.02)
        self.layers = nn.ModuleList(CrossAttention(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """Resample.

        Args:
            rows: The rows.
            mask: True = real.
            weights: Factor of each row's attention, `(n, length)`; None = 1.
        """
        bias = torch.zeros(mask.shape, device=rows.device) if weights is None else weights.clamp(min=1e-6).log()
        bias = bias.masked_fill(~mask, -torch.inf)
        vector = self.latent.to(rows.dtype).expand(rows.shape[0], -1)
        for layer in self.layers:
            vector = layer(vector, rows, bias)
        return self.norm(vector)  # type: ignore[no-any-return]
