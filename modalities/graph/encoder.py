"""A network of PyTorch Geometric over any graph."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.modality import Encoder
from mmalign.types import Features, Inputs
from modalities.common.encoders.graph_layers import TYPICAL, FieldTable, Readout, add_by, mean_by, padded
from modalities.common.encoders.pyg_network import PygNetwork
from modalities.graph.transform import FieldStatistics, GraphTransform


class FieldEmbedding(nn.Module):
    """Fields of nodes or edges as vectors: the sum of one learnt vector per integer field, or a linear map of floats.

    Shape:
        `(rows, fields)` -> `(rows, width)`; zeros where there are no fields.
    """

    def __init__(self, statistics: FieldStatistics, width: int) -> None:
        super().__init__()
        self.width, fields = width, len(statistics.first)
        self.table: nn.Module | None = None
        if fields:
            self.table = FieldTable(statistics.sizes, width) if statistics.integer else nn.Linear(fields, width)

    def forward(self, values: Tensor) -> Tensor:
        """Embed."""
        if self.table is None:
            return torch.zeros(len(values), self.width, device=values.device)
        return self.table(values)  # type: ignore[no-any-return]


class GraphNetwork(Encoder):
    """A model of `torch_geometric.nn.models`, or layers of one of its convolutions. Tokens are nodes.

    Args:
        transform: The fitted transform.
        model: `GIN`, `GAT`, `PNA`, `GraphSAGE`, `GCN`, `EdgeCNN`, `GraphUNet`, `AttentiveFP`, or the name of a
            convolution: `GINEConv`, `GATv2Conv`, `TransformerConv`, `GENConv`.
        width: Size of a node, and of the vector.
        depth: Layers.
        dropout: Fraction of units dropped in training.
        args: Further arguments of the model or convolution, such as `{heads: 4}` or `{jk: cat}`.

    Shape:
        What `GraphTransform.collate` makes -> vector `(batch, width)`, tokens `(batch, nodes, width)`.

    Raises:
        UserError: PyTorch Geometric has no such network or argument, or it is not installed.

    Example:
        >>> import numpy as np
        >>> from modalities.graph import MODALITY
        >>> graphs = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in (0, 1)]
        >>> transform = MODALITY.transform("pyg", {})
        >>> transform.fit(graphs)
        >>> encoder = MODALITY.encoder("pyg", transform, model="GINEConv", width=8, depth=2)
        >>> encoder(transform.collate([transform.item(graph) for graph in graphs])).vector.shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        transform: GraphTransform,
        *,
        model: str = "GIN",
        width: int = 128,
        depth: int = 4,
        dropout: float = 0.1,
        args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(width, token_width=width)
        self.arguments = {"model": model, "width": width, "depth": depth, "dropout": dropout, "args": dict(args or {})}
        of_nodes, of_edges = transform.fitted()
        self.network = PygNetwork("pyg", model, width, depth, dropout=dropout, args=args, degrees=transform.degrees)
        self.nodes, self.edges = FieldEmbedding(of_nodes, width), FieldEmbedding(of_edges, width)
        self.norm = nn.LayerNorm(width)
        self.readout = Readout(2 + self.network.pooled, width, 0, dropout)

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch of graphs."""
        owner, batch = inputs["owner"], inputs["mask"].shape[0]
        nodes, own = self.network(
            self.nodes(inputs["nodes"]), self.edges(inputs["edges"]), inputs["ends"], owner, batch
        )
        nodes = self.norm(nodes)
        pooled = [mean_by(nodes, owner, batch), add_by(nodes, owner, batch) / TYPICAL]
        vector = self.readout(pooled if own is None else [*pooled, own], inputs)
        return Features(vector, padded(nodes, inputs["slot"], inputs["mask"]))
