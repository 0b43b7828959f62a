"""A linear encoder of hand-crafted features: one token for each position (a lead, a cell), and one for the rest."""

import torch
from torch import Tensor, nn

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens


class FeatureLinear(Encoder):
    r"""A linear map of the features of positions, and of those of the whole sample.

    .. math:: v = \sum_p W_p m_p + W_0 m_0

    with features m of position p, and of the whole sample. Tokens are the positions, and one for the whole sample;
    they sum to the vector. CCA initialisation (`model.cca_init`) sets W; with a few hundred samples this outperforms a
    network.

    Args:
        width: Size of the vector and of a token.
        positions: Number of positions.
        per_position: Features of each position.
        rest: Features of the whole sample.

    Shape:
        `measures (batch, positions * per_position + rest)` -> vector `(batch, width)`, tokens
        `(batch, positions + 1, width)`.
    """

    def __init__(self, width: int, *, positions: int, per_position: int, rest: int) -> None:
        super().__init__(width, token_width=width)
        self.arguments = {"width": width}
        self.positions, self.per_position = positions, per_position
        self.table = nn.Parameter(torch.randn(positions * per_position + rest, width) * width**-0.5)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["measures"]`."""
        values = summed_tokens(inputs["measures"], self.table, self.positions, self.per_position)
        return Features(values.sum(1), Tokens(values, self.token_mask(inputs, values)))

    def token_mask(self, inputs: Inputs, values: Tensor) -> Tensor:
        """Mask of real tokens, `(batch, positions + 1)`; by default all."""
        return torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)

    def linear_features(self, inputs: Inputs) -> Tensor:
        """The features, `(batch, features)`."""
        measures: Tensor = inputs["measures"]
        return measures

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set W, `(features, width)`."""
        with torch.no_grad():
            self.table.copy_(weight)


def summed_tokens(measures: Tensor, table: Tensor, positions: int, per_position: int) -> Tensor:
    """A linear map of features as one token for each position and one for the rest; the tokens sum to `m W`.

    Args:
        measures: Features, `(batch, positions * per_position + rest)`.
        table: W, `(features, width)`.
        positions: Number of positions.
        per_position: Features of each position.

    Returns:
        `(batch, positions + 1, width)`.

    Example:
        >>> summed_tokens(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), torch.ones(5, 1), 2, 2)[0, :, 0]
        tensor([3., 7., 5.])
    """
    cut, shape = positions * per_position, (positions, per_position)
    by_position = torch.einsum(
        "bpf,pfw->bpw", torch.unflatten(measures[:, :cut], 1, shape), torch.unflatten(table[:cut], 0, shape)
    )
    return torch.cat([by_position, (measures[:, cut:] @ table[cut:]).unsqueeze(1)], dim=1)
