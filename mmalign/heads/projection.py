"""Projection head: vector -> unit vector of the shared space."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError


class ProjectionHead(nn.Module):
    """Projects a vector into the shared space and normalises it to unit length.

    Normalisation runs in float32 under autocast too; a zero vector stays zero, with a finite gradient.

    Args:
        width: Size of the incoming vector.
        dim: Size of the shared space.
        kind: `linear` (no bias), `affine` (with a bias), `mlp` (one hidden layer of `width`, GELU), `identity`, or
            `identity_init` (linear, starting as the identity).

    Shape:
        `(batch, width)` -> `(batch, dim)`, rows of length one.

    Example:
        >>> import torch
        >>> head = ProjectionHead(8, 4)
        >>> torch.testing.assert_close(head(torch.randn(2, 8)).norm(dim=1), torch.ones(2))
    """

    def __init__(self, width: int, dim: int, kind: str = "linear") -> None:
        super().__init__()
        if kind in ("linear", "affine"):
            linear = nn.Linear(width, dim, bias=kind == "affine")
            nn.init.normal_(linear.weight, std=width**-0.5)
            if kind == "affine":
                nn.init.zeros_(linear.bias)
            self.layers: nn.Module = linear
        elif kind == "mlp":
            self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim, bias=False))
        elif kind in ("identity", "identity_init"):
            if width != dim:
                raise UserError(
                    f"head {kind!r} needs an encoder of width {dim} (= model.dim), this one has {width}; set "
                    f"model.dim {width}, or null for the width of such encoders"
                )
            self.layers = nn.Identity() if kind == "identity" else nn.Linear(dim, dim, bias=False)
            if isinstance(self.layers, nn.Linear):
                nn.init.eye_(self.layers.weight)
        else:
            raise UserError(f"head must be linear, affine, mlp, identity or identity_init, got {kind!r}")

    def forward(self, vector: Tensor) -> Tensor:
        """Project and normalise."""
        projected = self.layers(vector)
        vectors = projected if projected.dtype.itemsize > 4 else projected.float()
        return F.normalize(vectors, dim=-1, eps=1e-8)
