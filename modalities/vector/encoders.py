"""Encoders of precomputed vectors: identity or perceptron."""

from typing import Any

from torch import nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.vector.transform import VectorTransform


def _checked(transform: VectorTransform, width: int | None) -> int:
    if width is not None and width != transform.width:
        raise UserError(f"the encoder takes vectors of width {width}, the data has {transform.width}")
    return transform.width


class Identity(Encoder):
    """Unchanged vectors, for precomputed embeddings of a frozen encoder.

    Args:
        transform: The fitted transform.
        width: Size of a vector; None = the transform's.

    Shape:
        `values (batch, width)` -> vector `(batch, width)`.
    """

    def __init__(self, transform: VectorTransform, *, width: int | None = None) -> None:
        super().__init__(_checked(transform, width))

    def forward(self, inputs: Inputs) -> Features:
        """Hand over."""
        return Features(inputs["values"])

    def config(self) -> dict[str, Any]:
        """The width."""
        return {"width": self.width}


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
        output_width = _checked(transform, width)
        self.arguments = {"width": output_width, "hidden": hidden, "depth": depth, "dropout": dropout}
        layers: list[nn.Module] = []
        for layer in range(depth):
            size = output_width if layer == 0 else hidden
            layers += [nn.LayerNorm(size), nn.Linear(size, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(hidden))

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["values"]`."""
        return Features(self.layers(inputs["values"]))

    def config(self) -> dict[str, Any]:
        """The arguments."""
        return dict(self.arguments)
