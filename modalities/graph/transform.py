"""Graph transform: fields as buckets or standardised, and a batch as one graph without edges between samples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign import registry
from mmalign.errors import BadSample, UserError
from mmalign.modality import Transform
from mmalign.types import Inputs
from modalities.common.encoders.embedding_bags import padded_mask, padded_slots
from modalities.graph.sample import Graph

MAX_BUCKETS = 1 << 16
MAX_DEGREE = 64
WHERE = "graph transform"
SMALLEST = 1e-6
"""Smallest standard deviation; fields that vary less are not scaled."""


@dataclass(frozen=True)
class FieldStatistics:
    """Fields of nodes or of edges in the training samples.

    Args:
        integer: Whether they are integers, embedded by a table, or floats, standardised.
        first: Lowest value of each field, or its mean.
        second: Highest value of each field, or its standard deviation.

    Raises:
        UserError: they are not of one number of fields, or a standard deviation is not positive.
    """

    integer: bool
    first: list[float]
    second: list[float]

    def __post_init__(self) -> None:
        """Validate the statistics."""
        if len(self.first) != len(self.second) or (not self.integer and min(self.second, default=1.0) < SMALLEST):
            raise UserError(f"{WHERE}: expected two numbers for each field, and positive standard deviations")

    @property
    def sizes(self) -> list[int]:
        """Buckets of each integer field; bucket 0 = a value outside the range of the training samples."""
        return [int(high - low) + 2 for low, high in zip(self.first, self.second, strict=True)]

    def apply(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """Buckets, or standardised values.

        Raises:
            BadSample: the sample has other fields than the training samples.
        """
        integer = values.dtype.kind == "i"
        if values.shape[1] != len(self.first) or (integer != self.integer and values.shape[1]):
            kinds = ("floats", "integers")
            raise BadSample(
                "graph", f"{len(self.first)} fields of {kinds[self.integer]} in {name}, as in training",
                f"{values.shape[1]} of {kinds[integer]}",
            )  # fmt: skip
        first, second = np.array(self.first), np.array(self.second)
        changed: NDArray[Any] = (values - first) / second if not self.integer else values - first + 1
        if self.integer:
            changed[(values < first) | (values > second)] = 0
        return changed.astype(np.int64 if self.integer else np.float32)


class Item(NamedTuple):
    """A graph after the transform."""

    nodes: NDArray[Any]
    edges: NDArray[Any]
    ends: NDArray[np.int64]


class GraphTransform(Transform):
    """Preprocess graphs and join them as one graph.

    Args:
        node_dropout: Probability of masking all fields of a node in training.
        nodes: Fitted statistics of the nodes' fields.
        edges: Fitted statistics of the edges' fields.
        degrees: Fitted number of nodes with 0, 1, 2, ... incoming edges, at most 64.

    Shape:
        For N nodes and M edges in a batch of B graphs of at most L nodes: `nodes (N, fields)`, `edges (M, fields)`,
        float32 or int64; `ends (2, M)`; `owner (N,)`; `slot (N,)`: indices in the padded `mask (B, L)`.
    """

    def __init__(
        self,
        node_dropout: float = 0.0,
        nodes: Mapping[str, Any] | None = None,
        edges: Mapping[str, Any] | None = None,
        degrees: Sequence[int] = (),
    ) -> None:
        if not 0 <= node_dropout < 1:
            raise UserError(f"graph transform: node_dropout must be in 0..1, got {node_dropout}")
        self.node_dropout, self.degrees = node_dropout, list(degrees)
        self.nodes = None if nodes is None else registry.settings(FieldStatistics, nodes, f"{WHERE}: nodes")
        self.edges = None if edges is None else registry.settings(FieldStatistics, edges, f"{WHERE}: edges")

    @staticmethod
    def make(settings: Mapping[str, Any]) -> "GraphTransform":
        """From a recipe's settings; raises an error for unknown names."""
        for name in settings:
            if name != "node_dropout":
                raise UserError(f"graph transform has no setting {name!r}{registry.nearest(name, ['node_dropout'])}")
        return GraphTransform(**settings)

    def fit(self, features: Iterable[Graph]) -> None:
        """Fit the ranges or the mean and standard deviation of fields, and the degrees."""
        if self.nodes is not None:
            return
        of_nodes, of_edges, degrees = _Range("x"), _Range("edge_attr"), np.zeros(MAX_DEGREE + 1, np.int64)
        for graph in features:
            of_nodes.add(graph.nodes)
            of_edges.add(graph.edges)
            incoming = np.bincount(graph.ends[1], minlength=len(graph.nodes))
            degrees += np.bincount(np.minimum(incoming, MAX_DEGREE), minlength=MAX_DEGREE + 1)
        self.nodes, self.edges = of_nodes.statistics(), of_edges.statistics()
        self.degrees = degrees[: np.flatnonzero(degrees)[-1] + 1].tolist()

    def __call__(self, features: Graph, rng: np.random.Generator | None = None) -> Item:
        """Fields as buckets or standardised; with `rng`, mask some nodes."""
        of_nodes, of_edges = self.fitted()
        nodes, edges = of_nodes.apply(features.nodes, "x"), of_edges.apply(features.edges, "edge_attr")
        if rng is not None and self.node_dropout:
            nodes = nodes * (rng.random((len(nodes), 1)) >= self.node_dropout).astype(nodes.dtype)
        return Item(nodes, edges, features.ends)

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Join the graphs."""
        sizes = np.array([len(item.nodes) for item in items])
        starts = np.cumsum(sizes) - sizes
        joined = {
            "nodes": np.concatenate([item.nodes for item in items]),
            "edges": np.concatenate([item.edges for item in items]),
            "ends": np.concatenate([item.ends + start for item, start in zip(items, starts, strict=True)], axis=1),
            "owner": np.repeat(np.arange(len(items)), sizes),
            "slot": padded_slots(sizes),
        }
        return {name: torch.from_numpy(values) for name, values in joined.items()} | {"mask": padded_mask(sizes)}

    def config(self) -> dict[str, Any]:
        """The settings and the fitted statistics."""
        nodes, edges = (None if one is None else asdict(one) for one in (self.nodes, self.edges))
        return {"node_dropout": self.node_dropout, "nodes": nodes, "edges": edges, "degrees": self.degrees}

    def fitted(self) -> tuple[FieldStatistics, FieldStatistics]:
        """The statistics of nodes and edges.

        Raises:
            UserError: the transform has not been fitted.
        """
        if self.nodes is None or self.edges is None:
            raise UserError("graph: fit the transform to training graphs first, for the number and range of fields")
        return self.nodes, self.edges


class _Range:
    """Running statistics of the fields of many graphs."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        self.integer: bool | None = None
        self.low = self.high = self.total = self.squares = np.zeros(0)

    def add(self, values: NDArray[Any]) -> None:
        integer = values.dtype.kind == "i"
        if self.integer is None:
            width = values.shape[1]
            self.integer, self.total, self.squares = integer, np.zeros(width), np.zeros(width)
            self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        if values.shape[1] != len(self.low) or integer != self.integer:
            raise UserError(
                f"graph: expected the same fields of {self.name} in all training graphs, got {len(self.low)} and "
                f"{values.shape[1]}, or integers and floats"
            )
        if len(values):
            self.count += len(values)
            self.low, self.high = np.minimum(self.low, values.min(0)), np.maximum(self.high, values.max(0))
            self.total = self.total + values.sum(0, dtype=np.float64)
            self.squares = self.squares + np.square(values, dtype=np.float64).sum(0)

    def statistics(self) -> FieldStatistics:
        if self.integer is None:
            raise UserError("graph: the transform needs training graphs, got none")
        if not self.count:
            zeros = [0.0] * len(self.low)
            return FieldStatistics(self.integer, zeros, zeros if self.integer else [1.0] * len(zeros))
        if self.integer:
            widest = int((self.high - self.low).max(initial=0))
            if widest >= MAX_BUCKETS:
                raise UserError(
                    f"graph: a field of integers in {self.name} has a range of {widest}, more than {MAX_BUCKETS} "
                    "values; convert it to floats"
                )
            return FieldStatistics(True, self.low.tolist(), self.high.tolist())
        mean = self.total / self.count
        deviation = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        return FieldStatistics(False, mean.tolist(), np.where(deviation > SMALLEST, deviation, 1.0).tolist())
