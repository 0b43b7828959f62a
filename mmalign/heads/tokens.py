"""Tokens -> unit tokens of the shared space."""

from torch import Tensor, nn

from mmalign.heads.projection import ProjectionHead
from mmalign.types import Tokens


class TokenHead(nn.Module):
    """Projects every token into the shared space and gives it length one; padded places hold zeros.

    Args:
        width: Size of an incoming token.
        dim: Size of the shared space.
        kind: As in `ProjectionHead`.

    Shape:
        values `(batch, length, width)` -> `(batch, length, dim)`; the mask stays.

    Example:
        >>> import torch
        >>> tokens = Tokens(torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, False, False]]))
        >>> TokenHead(8, 4)(tokens).values.norm(dim=2).round()
        tensor([[1., 1., 0.],
                [1., 0., 0.]], grad_fn=<RoundBackward0>)
    """

    def __init__(self, width: int, dim: int, kind: str = "linear") -> None:
        super().__init__()
        self.project = ProjectionHead(width, dim, kind)

    def forward(self, tokens: Tokens) -> Tokens:
        """Project and normalise the real tokens."""
        real = tokens.mask[:, :, None]
        # Zeros go in where a pad stands: whatever it holds, NaN too, reaches no weight's gradient.
        values: Tensor = self.project(tokens.values.masked_fill(~real, 0.0))
        return Tokens(values.masked_fill(~real, 0.0), tokens.mask)
