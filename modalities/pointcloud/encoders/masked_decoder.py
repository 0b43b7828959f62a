"""The decoder of masked pretraining: it sees visible tokens, and where the hidden ones are."""

import torch
from torch import Tensor, nn

from mmalign.types import Inputs, Tokens
from modalities.common.encoders.transformer import Transformer


def position_layers(width: int) -> nn.Sequential:
    """From the centre of a group to its position code: 3 -> 128 -> GELU -> width (Point-MAE)."""
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))


class MaskedDecoder(nn.Module):
    """A small transformer over visible tokens and mask tokens, and a linear map to coordinates (Point-MAE, 3.2).

    One decoder serves every view. Point-CMAE has one for each of its two views; their encoder is shared all the same.

    Args:
        width: Size of a token.
        target_width: Coordinates of a group.
        depth: Layers.
        heads: Attention heads.

    Shape:
        tokens `(batch, groups, width)` in the order of the groups, mask True = visible, and inputs as
        `PointTransformer.mask_inputs` made them -> features `(batch, groups, width)`, of the last layer and before its
        norm, and coordinates `(batch, groups, target_width)`; both are of use where a group is hidden.
    """

    def __init__(self, width: int, target_width: int, *, depth: int, heads: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = position_layers(width)
        self.layers = Transformer(width, depth=depth, heads=heads)
        self.points = nn.Linear(width, target_width)

    def forward(self, tokens: Tokens, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Decode."""
        values = torch.where(inputs["hidden"][:, :, None], self.mask_token.to(tokens.values.dtype), tokens.values)
        features = self.layers.before_norm(values, inputs["mask"], self.positions(inputs["centres"]))
        return features, self.points(self.layers.norm(features))
