"""Uncertainty heads: from tokens to a log-variance per dimension."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.objectives.functional.distillation import bag_gaussian
from mmalign.types import Tokens

Pool = Literal["gpo", "attention", "token", "mean", "bag"]


@dataclass
class GaussianConfig:
    """Configuration of a tower's `log_variance` head; built where an objective needs it (pcmepp, prolip).

    Args:
        pool: gpo (values sorted and weighted by rank, Chen et al. 2021), attention (one learnt query), token (a learnt
            uncertainty token that attends to the others, as in ProLIP), mean, or bag: without weights, the variance of
            the tokens in the shared space (for instance a teacher's frames); ignores `initial`.
        initial: Initial log-variance; null = -log(2 dim), at which the variances of a sample sum to 1/2. At 0 the
            initial logits would be in the thousands.
    """

    pool: Pool = "gpo"
    initial: float | None = None


class GaussianHead(nn.Module):
    """Tokens -> log-variance.

    Args:
        width: Size of a token.
        dim: Size of the shared space.
        config: See `GaussianConfig`.

    Shape:
        values `(batch, length, width)`, mask `(batch, length)` -> `(batch, dim)`. A sample without a real token has
        the initial value, changed by the bias only.

    Example:
        >>> head = GaussianHead(8, 4, GaussianConfig(pool="mean", initial=-7.0))
        >>> head(Tokens(torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)))[0]
        tensor([-7., -7., -7., -7.], grad_fn=<SelectBackward0>)
    """

    def __init__(self, width: int, dim: int, config: GaussianConfig) -> None:
        super().__init__()
        if config.pool not in POOLS:
            raise UserError(f"gaussian.pool must be one of {', '.join(POOLS)} or bag, got {config.pool!r}")
        initial = -math.log(2 * dim) if config.initial is None else config.initial
        # After the pooling a token's width is `dim` for gpo, which sorts each dimension of the projected tokens.
        self.before = nn.Linear(width, dim, bias=False) if config.pool == "gpo" else nn.Identity()
        self.pool = POOLS[config.pool](dim if config.pool == "gpo" else width)
        self.after = nn.Identity() if config.pool == "gpo" else nn.Linear(width, dim, bias=False)
        for layer in (self.before, self.after):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.1 * width**-0.5)
        self.bias = nn.Parameter(torch.full((dim,), initial))

    def forward(self, tokens: Tokens) -> Tensor:
        """Pool and project."""
        values = torch.where(tokens.mask[:, :, None], tokens.values, 0.0)
        pooled: Tensor = self.after(self.pool(self.before(values), tokens.mask))
        pooled = torch.where(tokens.mask.any(1, keepdim=True), pooled, 0.0)
        return self.bias + (pooled if pooled.dtype.itemsize > 4 else pooled.float())


class Gpo(nn.Module):
    """Generalised pooling (Chen et al. 2021, arXiv 2011.04305): weighted sum of each dimension's sorted values.

    The weight of a rank depends on the rank and the number of tokens: sinusoidal encodings of the rank through a small
    bidirectional GRU. The result is invariant to token order and padding.
    """

    def __init__(self, width: int, size: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        self.size, self.temperature = size, temperature
        self.up, self.down = nn.GRU(size, size, batch_first=True), nn.GRU(size, size, batch_first=True)
        self.weight = nn.Linear(size, 1, bias=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool `(batch, length, width)` to `(batch, width)`."""
        if not values.numel():
            # No sample or no token: still a graph to every weight, or processes would wait for each other in DDP.
            unused = sum((p.sum() * 0.0 for p in self.parameters()), values.new_zeros(()))
            return values.sum(1) + unused
        counts = mask.sum(1)
        weights = self._weights(counts, values.shape[1]).to(values.dtype)
        ordered = values.masked_fill(~mask[:, :, None], -torch.inf).sort(1, descending=True).values
        real = (torch.arange(values.shape[1], device=mask.device) < counts[:, None])[:, :, None]
        return (torch.where(real, ordered, 0.0) * weights[:, :, None]).sum(1)

    def _weights(self, counts: Tensor, length: int) -> Tensor:
        """Weight of each rank for each sample, `(batch, length)`, from its number of tokens."""
        position = torch.arange(length, device=counts.device)
        half = torch.arange(self.size // 2, device=counts.device)
        angle = position[:, None] * torch.exp(half * (-math.log(10000.0) * 2 / self.size))
        codes = torch.cat([angle.sin(), angle.cos()], 1).to(self.weight.weight.dtype)
        # Reading the occurring sizes from a device would synchronise with it.
        sizes, which = _sizes(counts.clamp(min=1), length, ask=counts.device.type == "cpu")
        # The forward direction does not depend on the size: one pass for all. The backward one starts at each size.
        last_first = (sizes[:, None] - 1 - position).clamp(min=0)
        down = self.down(codes[last_first])[0]
        down = down.gather(1, last_first[:, :, None].expand_as(down))
        scores = self.weight((self.up(codes[None])[0] + down) / 2)[:, :, 0] / self.temperature
        scores = scores.masked_fill(position >= sizes[:, None], -torch.inf)
        weights: Tensor = scores.softmax(1)[which]
        return weights


def _sizes(counts: Tensor, length: int, *, ask: bool) -> tuple[Tensor, Tensor]:
    """Sizes that include all counts, and the index of each count among them."""
    if ask:
        sizes, which = torch.unique(counts, return_inverse=True)
        return sizes, which
    if counts.shape[0] < length:
        return counts, torch.arange(counts.shape[0], device=counts.device)
    return torch.arange(1, length + 1, device=counts.device), counts - 1


class AttentionPooling(nn.Module):
    """Attention pooling: one learnt query attends to the real tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool `(batch, length, width)` to `(batch, width)`."""
        values = self.norm(values)
        scores = (values @ self.query.to(values.dtype)).masked_fill(~mask, -1e4)
        return (scores.softmax(1)[:, :, None] * values).sum(1)


class UncertaintyToken(nn.Module):
    """Uncertainty token: a learnt token attends to itself and the real tokens in one layer; its output is returned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in (8, 4, 2, 1) if width % heads == 0)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool `(batch, length, width)` to `(batch, width)`."""
        token = self.token.to(values.dtype).expand(values.shape[0], 1, -1)
        seen = self.norm(torch.cat([token, values], 1))
        real = torch.cat([mask.new_ones(mask.shape[0], 1), mask], 1)
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, width / heads)
            for part in (self.query(seen[:, :1]), *self.key_value(seen).chunk(2, 2))
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None])
        attended = token + self.out(mixed.transpose(1, 2).flatten(2))
        return (attended + self.mlp(self.norm_mlp(attended)))[:, 0]  # type: ignore[no-any-return]


class MeanPooling(nn.Module):
    """The mean of the real tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool `(batch, length, width)` to `(batch, width)`."""
        weights = mask[:, :, None].to(values.dtype)
        return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


POOLS: dict[str, type[nn.Module]] = {
    "gpo": Gpo, "attention": AttentionPooling, "token": UncertaintyToken, "mean": MeanPooling,
}  # fmt: skip


def bag_log_variance(tokens: Tokens) -> Tensor:
    """The log-variance of a bag of vectors in the shared space, `(batch, length, dim)` -> `(batch, dim)`."""
    return bag_gaussian(tokens.values, tokens.mask)[1]
