"""Token reducer (Wukong): a tower's tokens pooled to a small, fixed number by learnt attention maps."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.types import Tokens

GROUPS = 8
"""Channel groups of the published maps; with another width, the largest divisor of both."""


class TokenReducer(nn.Module):
    """Reduces any number of tokens to `tokens` weighted means, by one learnt attention map for each.

        A = softmax over real tokens of  W2 (W1 LN(X) + b1) + b2
        Y = A^T (W3 X + b3)                                        W1, W3: block-diagonal, `groups` blocks

    (Gu et al. 2022, Wukong, arXiv 2202.06767, its token reduction layer, without a nonlinearity as released; W3 starts
    as the identity.) The maps read one token at a time, so any set of tokens has them: no grid is needed.

    Args:
        dim: Size of a token.
        tokens: Number of reduced tokens.
        groups: Blocks of W1 and W3; None = 8, or the largest divisor of 8 and `dim`.
        unit: Whether the reduced tokens are normalised to unit length.

    Shape:
        values `(batch, length, dim)` -> `(batch, tokens, dim)`, with `origin (batch, tokens, length)` = A^T, without a
        gradient. A sample without a real token has none afterwards.

    Example:
        >>> reducer = TokenReducer(8, 3)
        >>> reduced = reducer(Tokens(torch.randn(2, 50, 8), torch.ones(2, 50, dtype=torch.bool)))
        >>> reduced.values.shape, reduced.origin.sum(2).round()
        (torch.Size([2, 3, 8]), tensor([[1., 1., 1.],
                [1., 1., 1.]]))
    """

    def __init__(self, dim: int, tokens: int, groups: int | None = None, *, unit: bool = True) -> None:
        super().__init__()
        groups = math.gcd(GROUPS, dim) if groups is None else groups
        if tokens < 1 or groups < 1 or dim % groups:
            raise UserError(f"token reducer: expected 1 or more tokens and groups that divide {dim}, got {groups}")
        self.unit = unit
        self.norm = nn.LayerNorm(dim)
        self.mix, self.attend = GroupedLinear(dim, groups), nn.Linear(dim, tokens)
        self.project = GroupedLinear(dim, groups)
        with torch.no_grad():
            self.project.weight.copy_(torch.eye(dim // groups).expand_as(self.project.weight))
            self.project.bias.zero_()

    def forward(self, tokens: Tokens) -> Tokens:
        """Reduce the real tokens; the content of padding, NaN included, reaches nothing."""
        real = tokens.mask[:, :, None]
        values = tokens.values.masked_fill(~real, 0.0)
        logits = self.attend(self.mix(self.norm(values)))
        logits = logits if logits.dtype.itemsize > 4 else logits.float()
        attention = logits.masked_fill(~real, torch.finfo(logits.dtype).min).softmax(1).masked_fill(~real, 0.0).mT
        with torch.autocast(logits.device.type, enabled=False):
            reduced = attention @ self.project(values).to(attention.dtype)
        some = tokens.mask.any(1, keepdim=True)
        reduced = torch.where(some[:, :, None], reduced, 0.0)  # without a real token W3's bias is not one either
        if self.unit:
            reduced = F.normalize(reduced, dim=2, eps=1e-8)
        origin = attention.detach()
        weight = None
        if tokens.weight is not None:
            real_weight = tokens.weight.masked_fill(~tokens.mask, 0.0).to(origin.dtype)
            weight = (origin @ real_weight[:, :, None])[:, :, 0]
        return Tokens(reduced, some.expand(reduced.shape[:2]), weight, origin)


class GroupedLinear(nn.Module):
    """Block-diagonal linear map of the last dimension, with a bias.

    Args:
        dim: Size of input and output.
        groups: Number of blocks; must divide `dim`.
    """

    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        size = dim // groups
        self.weight = nn.Parameter(torch.empty(groups, size, size))  # (group, in, out)
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.uniform_(self.weight, -(size**-0.5), size**-0.5)  # as nn.Linear

    def forward(self, values: Tensor) -> Tensor:
        """Map `(..., dim)` to `(..., dim)`."""
        groups, size, _ = self.weight.shape
        blocks = values.reshape(-1, groups, size).transpose(0, 1)  # (groups, vectors, in)
        mapped: Tensor = torch.bmm(blocks, self.weight).transpose(0, 1).reshape(values.shape) + self.bias
        return mapped

    def dense(self) -> Tensor:
        """The map as one matrix, `(out, in)`."""
        return torch.block_diag(*self.weight).T  # type: ignore[no-any-return, no-untyped-call]
