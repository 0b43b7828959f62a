"""Encoders of precomputed vectors: identity or perceptron."""

from torch import nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.vector.transform import VectorTransform


class Identity(Encoder):
    """Unchanged vectors, for precomputed embeddings of a frozen encoder.

    Args:
        transform: The fitted transform.
        width: Size of a vector; None = the transform's.

    Shape:
        `values (batch, width)` -> vector `(batch, width)`.
    """

    def __init__(self, transform: VectorTransform, *, width: int | None = None) -> None:
        super().__init__(transform.checked_width(width))
        self.arguments = {"width": self.width}

    def forward(self, inputs: Inputs) -> Features:
        """Hand over."""
        return Features(inputs["values"])


class Mlp(Encoder):
    """Perceptron: `depth` layers of norm, linear and GELU, and a final norm.

    Args:
        transform: The fitted transform.
        width: Size of a vector; None = the transform's.
        hidden: Units of each layer.
        depth: Number of layers.
        dropout: Fraction of units dropped in training.

    Shape:
        `values (batch, width)` -> vector `(batch, hidden)`.

    Raises:
        UserError: `depth` is below 1.

    Example:
        >>> import torch
        >>> from modalities.vector import MODALITY
        >>> encoder = MODALITY.encoder("mlp", MODALITY.transform("mlp", {"width": 4}), hidden=8)
        >>> encoder({"values": torch.ones(2, 4)}).vector.shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        transform: VectorTransform,
        *,
        width: int | None = None,
        hidden: int = 256,
        depth: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(hidden)
        if depth < 1:
            raise UserError(f"vector mlp: expected a depth of at least 1, got {depth}")
        output_width = transform.checked_width(width)
        self.arguments = {"width": output_width, "hidden": hidden, "depth": depth, "dropout": dropout}
        layers: list[nn.Module] = []
        for layer in range(depth):
            size = output_width if layer == 0 else hidden
            layers += [nn.LayerNorm(size), nn.Linear(size, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(hidden))

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["values"]`."""
        return Features(self.layers(inputs["values"]))
