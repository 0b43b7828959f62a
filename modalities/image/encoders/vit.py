"""A small vision transformer trained from scratch."""

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.transformer import AttentionPool, Transformer, masked_mean
from modalities.image.transform import ImageTransform, Normalise


class ViT(Encoder):
    """Vision transformer with mean pooling (Dosovitskiy et al. 2021, simplified as in Beyer et al. 2022).

    No class token; position embeddings are learnt and initialised as sines and cosines.

    Args:
        transform: The fitted transform; defines size, mean and standard deviation.
        patch: Side of a patch in pixels; must divide the size.
        width: Size of a token, a multiple of 4.
        depth: Layers.
        heads: Attention heads; must divide `width`.
        pool: mean or attention.
        dropout: Fraction of values dropped on each residual branch in training.
        size: Image size in pixels, checked against the transform's; None = the transform's.
        token_weights: Return the attention of the pooling as weights of the tokens; needs pool attention.

    Shape:
        `pixels (batch, 3, size, size)` uint8 -> vector `(batch, width)`, tokens `(batch, (size / patch) ** 2, width)`.

    Example:
        >>> from modalities.image import MODALITY
        >>> transform = MODALITY.transform("vit", {"size": 32})
        >>> MODALITY.encoder("vit", transform, width=16, depth=1, heads=2).token_width
        16
    """

    def __init__(
        self,
        transform: ImageTransform,
        *,
        patch: int = 8,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        pool: str = "mean",
        dropout: float = 0.0,
        size: int | None = None,
        token_weights: bool = False,
    ) -> None:
        super().__init__(width, token_width=width)
        size = transform.checked_size(size)
        if size % patch:
            raise UserError(f"vit: patch must divide the size of the picture, got patch={patch} and size={size}")
        if width % 4:
            raise UserError(f"vit: width must be a multiple of 4, got {width}")
        if pool not in ("mean", "attention"):
            raise UserError(f"vit: pool must be mean or attention, got {pool!r}")
        if token_weights and pool != "attention":
            raise UserError("vit: token_weights are the attention of the pooling; set pool: attention")
        self.arguments = {
            "patch": patch, "width": width, "depth": depth, "heads": heads,
            "pool": pool, "dropout": dropout, "size": size, **({"token_weights": True} if token_weights else {}),
        }  # fmt: skip
        self.token_weights = token_weights
        self.normalise = Normalise(transform)
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.positions = nn.Parameter(sines(size // patch, width))
        self.layers = Transformer(width, depth=depth, heads=heads, dropout=dropout)
        self.pool = AttentionPool(width, heads) if pool == "attention" else None

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["pixels"]`."""
        grid = self.patches(self.normalise(inputs["pixels"]))
        values = self.layers(grid.flatten(2).transpose(1, 2) + self.positions)
        mask = values.new_ones(values.shape[:2], dtype=torch.bool)
        vector = self.pool(values, mask) if self.pool is not None else masked_mean(values, mask)
        weight = self.pool.weights(values, mask) if self.pool is not None and self.token_weights else None
        return Features(vector, Tokens(values, mask, weight))


def sines(grid: int, width: int) -> Tensor:
    """Sinusoidal position embeddings of a square grid: a quarter of the width each for sin and cos of row and column.

    Frequencies are `10000 ** (-4 i / width)`, as in Vaswani et al. 2017, section 3.5.

    Shape:
        `(side * side, width)`, row by row.
    """
    frequency = 10000.0 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * frequency  # (side, width / 4)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows = axis[:, None].expand(grid, grid, -1)
    return torch.cat([rows, rows.transpose(0, 1)], dim=2).reshape(grid * grid, width)
