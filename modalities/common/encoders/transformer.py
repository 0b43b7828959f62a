"""A pre-norm transformer with masked attention, and pooling of its tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError


def demand_heads(width: int, heads: int) -> None:
    """Refuse attention heads that do not divide a width.

    Raises:
        UserError: there is no head, or their number does not divide the width.

    Example:
        >>> demand_heads(8, 3)
        Traceback (most recent call last):
        mmalign.errors.UserError: heads must divide width, got heads=3 and width=8
    """
    if heads < 1 or width < 1 or width % heads:
        raise UserError(f"heads must divide width, got heads={heads} and width={width}")


class Attention(nn.Module):
    """Multi-head self-attention over unmasked positions.

    Shape:
        values `(batch, length, width)`, mask `(batch, length)` or None, True = real -> `(batch, length, width)`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    @torch.no_grad()
    def of_first(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of the first position to the others, mean over heads, `(batch, length)`; 0 elsewhere."""
        q, k, _ = self.qkv(values).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q[:, :, :1] @ k.mT)[:, :, 0].float() / q.shape[-1] ** 0.5  # (batch, heads, length)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -1e30)
        weights: Tensor = scores.softmax(2).mean(1)
        first = torch.arange(weights.shape[1], device=weights.device) == 0
        return weights.masked_fill(first if mask is None else first | ~mask, 0.0)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend."""
        q, k, v = (
            self.qkv(values).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (batch, heads, length, d)
        keys = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class DropPath(nn.Module):
    """Stochastic depth: drop the residual branch of random samples in training (arXiv 1603.09382).

    Args:
        probability: Probability of dropping a sample's branch; kept branches are divided by `1 - probability`.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        """Drop; `values (batch, ...)`."""
        if not self.training or not self.probability:
            return values
        shape = (values.shape[0], *[1] * (values.ndim - 1))
        return values * values.new_empty(shape).bernoulli_(1 - self.probability) / (1 - self.probability)


class Block(nn.Module):
    """One pre-norm layer: attention, then a two-layer perceptron, each with a residual connection."""

    def __init__(self, width: int, heads: int, *, mlp_ratio: float, dropout: float, drop_path: float = 0.0) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm_attention, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the layer."""
        values = values + self.drop_path(self.dropout(self.attention(self.norm_attention(values), mask)))
        return values + self.drop_path(self.dropout(self.mlp(self.norm_mlp(values))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of layers with a norm at the end.

    Args:
        width: Size of a token.
        depth: Number of layers.
        heads: Attention heads; must divide `width`.
        mlp_ratio: Hidden size of the perceptron, as a multiple of `width`.
        dropout: Fraction of values dropped on each residual branch in training.
        drop_path: Probability of dropping a sample's branches in the last layer; grows linearly from 0 in the first
            layer.
        final_norm: Normalise the output of the last layer.

    Raises:
        UserError: `heads` does not divide `width`, or depth or drop_path is out of its range.

    Example:
        >>> from modalities.common.encoders.transformer import Transformer
        >>> Transformer(8, depth=1, heads=2)(torch.zeros(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        demand_heads(width, heads)
        if depth < 0 or not 0 <= drop_path < 1:
            raise UserError(
                f"expected a depth of at least 0 and drop_path from 0 to below 1, got depth={depth} and "
                f"drop_path={drop_path:g}"
            )
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio=mlp_ratio, dropout=dropout, drop_path=drop_path * layer / max(depth - 1, 1))
            for layer in range(depth)
        )
        self.norm = nn.LayerNorm(width) if final_norm else nn.Identity()
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # GPT-2's rule: output projections of residual branches are initialised smaller in deeper stacks.
                residual = name.endswith(("attention.out.weight", "mlp.2.weight"))
                nn.init.trunc_normal_(parameter, std=0.02 / (2 * depth) ** 0.5 if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, values: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Run every layer and the norm; values at padded positions are undefined."""
        return self.norm(self.before_norm(values, mask, positions))  # type: ignore[no-any-return]

    def with_first_attention(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, and the last layer's attention of the first position, see `Attention.of_first`."""
        *before, last = (block for block in self.blocks if isinstance(block, Block))
        for block in before:
            values = block(values, mask)
        weights = last.attention.of_first(last.norm_attention(values), mask)
        return self.norm(last(values, mask)), weights

    def before_norm(self, values: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Run every layer; `positions` are added before each of them."""
        for block in self.blocks:
            values = block(values if positions is None else values + positions, mask)
        return values


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real positions, `(batch, length, width)` and `(batch, length)` -> `(batch, width)`."""
    weights = mask.unsqueeze(-1).to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


class AttentionPool(nn.Module):
    """Attention pooling: one learnt query attends to the real tokens.

    Shape:
        `(batch, length, width)`, mask `(batch, length)` -> `(batch, width)`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        demand_heads(width, heads)
        self.heads = heads
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    @torch.no_grad()
    def weights(self, values: Tensor, mask: Tensor) -> Tensor:
        """Attention of the query to each token, mean over heads, `(batch, length)`; 0 at padding."""
        k = values.reshape(*values.shape[:2], self.heads, -1).float()  # (batch, length, heads, width / heads)
        scores = (k * self.query.view(self.heads, -1).float()).sum(3) / k.shape[3] ** 0.5
        weights: Tensor = scores.masked_fill(~mask[:, :, None], -1e30).softmax(1).mean(2)
        return weights.masked_fill(~mask, 0.0)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool."""
        batch = values.shape[0]
        q = self.query.view(1, self.heads, 1, -1).expand(batch, -1, -1, -1)
        k = values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)  # (batch, heads, length, width / heads)
        v = self.value(values).reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask[:, None, None, :])
        return self.out(mixed.flatten(1))  # type: ignore[no-any-return]
