"""The graph modality: what the core calls."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmalign import registry
from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder, Modality, Transform
from modalities.common.sources.toy_classes import colour_and_shape
from modalities.graph.encoder import GraphNetwork
from modalities.graph.picture import draw_graph
from modalities.graph.sample import MAX_BYTES, Graph, read_graph
from modalities.graph.transform import WHERE, GraphTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class GraphModality(Modality):
    """Graphs of any kind."""

    name = "graph"
    max_file_bytes = 2 * MAX_BYTES
    description = "graphs: Data of PyTorch Geometric, .npz files with x, edge_index, edge_attr; fields are numbers"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {"pyg": GraphNetwork}
    cached_types: ClassVar[Sequence[type]] = (Graph,)
    reading_libraries: ClassVar[Sequence[str]] = ("numpy",)

    def read(self, source: Any) -> Graph:
        """Read, see `read_graph`."""
        return read_graph(source)

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> GraphTransform:
        """A transform to be fitted to the training graphs."""
        return GraphTransform.make(settings)

    def restore_transform(self, config: Mapping[str, Any]) -> GraphTransform:
        """From `GraphTransform.config()`."""
        return registry.settings(GraphTransform, config, WHERE)

    def picture(self, sample: Graph, axes: "Axes") -> None:
        """Draw nodes and edges."""
        draw_graph(sample, axes)

    def weighted_picture(self, sample: Graph, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw with nodes coloured by weight; one weight for each node."""
        draw_graph(sample, axes, weights)

    def token_labels(
        self, sample: Graph, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Nodes, numbered from 0 as in `edge_index`."""
        nodes = len(sample.nodes)
        if count != nodes or level != "tokens":
            return None
        return TokenLabels(tuple(f"node {index}" for index in range(nodes)), np.eye(nodes))

    def toy_sample(self, label: int, rng: np.random.Generator) -> Graph:
        """A ring or a star of 5 to 12 nodes; four of five nodes have the type of the class."""
        colour_and_shape(label)
        count = int(rng.integers(5, 13))
        kinds = np.where(rng.random(count) < 0.8, label % 5, rng.integers(0, 5, count))
        others = np.arange(1, count)
        pairs = np.stack((np.arange(count), np.roll(np.arange(count), -1)))
        if label >= 5:
            pairs = np.stack((np.zeros(count - 1, np.int64), others))
        ends = np.concatenate((pairs, pairs[::-1]), axis=1).astype(np.int64)
        fields = rng.integers(0, 2, (pairs.shape[1], 1))
        return Graph(kinds[:, None].astype(np.int64), np.concatenate((fields, fields)).astype(np.int64), ends)
