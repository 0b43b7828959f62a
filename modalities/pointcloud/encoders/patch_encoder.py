"""A small PointNet that turns one group of points into one vector."""

import torch
from torch import Tensor, nn

NORMS = ("layer", "batch")


class PatchEncoder(nn.Module):
    """Perceptron of each point, maximum, perceptron of point and maximum, maximum (Point-BERT, arXiv 2111.14819).

    Args:
        channels: Numbers of a point: 3, and 3 more for colours and for normals.
        width: Size of what comes out.
        hidden: Size of the first layer; the next are twice and four times as wide. Published: 128.
        inner: Size after the maximum, before a linear layer brings it to `width` (Point-BERT: 256); None = no layer.
        norm: layer (of each point alone, so that batch mates and processes change nothing) or batch, as published.

    Shape:
        `(groups, size, channels)` -> `(groups, width)`.

    Example:
        >>> PatchEncoder(3, 16, hidden=8)(torch.zeros(5, 32, 3)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self, channels: int, width: int, *, hidden: int, inner: int | None = None, norm: str = "layer"
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Linear(channels, hidden), _norm(hidden, norm), nn.ReLU(), nn.Linear(hidden, 2 * hidden)
        )
        self.second = nn.Sequential(
            nn.Linear(4 * hidden, 4 * hidden), _norm(4 * hidden, norm), nn.ReLU(), nn.Linear(4 * hidden, inner or width)
        )
        self.reduce = nn.Linear(inner, width) if inner else nn.Identity()

    def forward(self, patches: Tensor) -> Tensor:
        """Encode each group."""
        size = patches.shape[1]
        local = self.first(patches.flatten(0, 1)).unflatten(0, (-1, size))  # (groups, size, 2 hidden)
        whole = local.amax(1, keepdim=True).expand(-1, size, -1)
        values: Tensor = self.second(torch.cat([whole, local], dim=2).flatten(0, 1)).unflatten(0, (-1, size))
        return self.reduce(values.amax(1))  # type: ignore[no-any-return]


def _norm(width: int, norm: str) -> nn.Module:
    return nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width)
