"""Layers of graph encoders: field embeddings, message passing, readout; without batch statistics."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.types import Inputs, Tokens
from modalities.common.encoders.embedding_bags import bag_sums

TYPICAL = 32
"""Sums over a graph are divided by this number of nodes, to have the scale of a mean."""


def add_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum the rows that share an index, `(rows, width)` and `(rows,)` -> `(size, width)`; half precision is raised.

    Example:
        >>> add_by(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 0]), 3).flatten()
        tensor([5., 0., 2.])
    """
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()  # hundreds of atoms are summed
    return values.new_zeros(size, values.shape[1]).index_add(0, index, values)


def mean_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Mean of the rows that share an index; zero where there is none."""
    counts = add_by(torch.ones_like(values[:, :1]), index, size)
    return add_by(values, index, size) / counts.clamp(min=1)


def padded(values: Tensor, slot: Tensor, mask: Tensor) -> Tokens:
    """Rows of all molecules to `(batch, length, width)`; zeros where the mask is False."""
    flat = values.new_zeros(mask.numel(), values.shape[1]).index_copy(0, slot, values)
    return Tokens(flat.view(*mask.shape, -1), mask)


class FieldTable(nn.Module):
    """The sum of one learnt vector per field; that of an unknown value is initialised to zero.

    Args:
        sizes: Buckets of each field.
        width: Size of a vector.

    Shape:
        `(rows, fields)` integers -> `(rows, width)`.
    """

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        self.register_buffer("offsets", starts, persistent=False)
        self.weight = nn.Parameter(torch.randn(sum(sizes), width) * len(sizes) ** -0.5)
        with torch.no_grad():
            self.weight[starts] = 0.0

    def forward(self, values: Tensor) -> Tensor:
        """Embed."""
        return F.embedding_bag(values + self.offsets, self.weight, mode="sum")


def perceptron(width: int, dropout: float, inputs: int | None = None) -> nn.Sequential:
    """Two-layer perceptron with hidden size twice the width; `inputs` = input size, default `width`."""
    hidden = 2 * width
    return nn.Sequential(nn.Linear(inputs or width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout))


class Neighbours(nn.Module):
    r"""Message passing of GINE (Hu et al. 2020, arXiv 1905.12265).

    .. math:: (1 + \epsilon) h_i + \sum_{j \to i} \mathrm{relu}(h_j + e_{ji})

    Shape:
        nodes `(nodes, width)`, edges `(edges, width)`, ends `(2, edges)` from and to -> `(nodes, width)`.

    Example:
        >>> hear = Neighbours()
        >>> hear(torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.5]]), torch.tensor([[0], [1]])).detach()
        tensor([[ 1.0000],
                [-0.5000]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(1))

    def forward(self, nodes: Tensor, edges: Tensor, ends: Tensor) -> Tensor:
        """Sum."""
        messages = F.relu(nodes[ends[0]] + edges)
        return (1 + self.epsilon) * nodes + add_by(messages, ends[1], nodes.shape[0])


class Readout(nn.Module):
    """Pooled vectors, and the fingerprint if there is one, to the molecule's vector.

    Args:
        pools: Number of pooled vectors.
        width: Size of each, and of the result.
        bins: Bins of the fingerprint, 0 = none.
        dropout: Fraction of units dropped in training.
    """

    def __init__(self, pools: int, width: int, bins: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(bins, width) * 0.1) if bins else None
        self.branch = nn.Sequential(nn.LayerNorm(width), perceptron(width, dropout)) if bins else None
        self.join = perceptron(width, dropout, (pools + bool(bins)) * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, pooled: Sequence[Tensor], inputs: Inputs) -> Tensor:
        """Join."""
        parts = list(pooled)
        if self.table is not None and self.branch is not None:
            parts.append(self.branch(bag_sums(self.table, inputs)))
        return self.norm(self.join(torch.cat(parts, dim=1)))  # type: ignore[no-any-return]
