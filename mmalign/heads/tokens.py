"""Token head: tokens -> unit tokens of the shared space."""

from torch import Tensor, nn

from mmalign.heads.projection import ProjectionHead
from mmalign.types import Tokens


class TokenHead(nn.Module):
    """Projects every token into the shared space and normalises it to unit length; padding is zero.

    Args:
        width: Size of an incoming token.
        dim: Size of the shared space.
        kind: As in `ProjectionHead`.

    Shape:
        values `(batch, length, width)` -> `(batch, length, dim)`; mask and weights stay.

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
        # Padding is zeroed first: its content, NaN included, reaches no weight's gradient.
        values: Tensor = self.project(tokens.values.masked_fill(~real, 0.0))
        return Tokens(values.masked_fill(~real, 0.0), tokens.mask, tokens.weight)
