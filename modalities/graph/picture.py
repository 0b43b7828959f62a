"""A graph on matplotlib axes, nodes coloured by weight if asked to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from modalities.graph.sample import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LAID_OUT = 200
"""Nodes up to which forces place them; more are placed on a circle."""


def draw_graph(sample: Graph, axes: "Axes", weights: Sequence[float] | None = None) -> None:
    """Draw nodes and edges; with weights, red above zero and blue below.

    Raises:
        UserError: the weights are not one finite number per node.
    """
    places, small = layout(sample), len(sample.nodes) <= MAX_LAID_OUT
    for start, end in sample.ends.T[:2000].tolist():
        axes.plot(*places[[start, end]].T, color="0.7", linewidth=0.8, zorder=1)
    values = np.zeros(len(places)) if weights is None else np.asarray(weights, dtype=float)
    if values.shape != (len(places),) or not np.isfinite(values).all():
        raise UserError(f"expected {len(places)} finite weights, one a node, got shape {values.shape}")
    most = max(float(np.abs(values).max()), 1e-12)
    axes.scatter(
        places[:, 0], places[:, 1], c=values, cmap="coolwarm", vmin=-most, vmax=most,
        s=60 if small else 6, edgecolors="0.3", zorder=2,
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.set_axis_off()


def layout(sample: Graph, steps: int = 60) -> NDArray[np.float64]:
    """Positions of the nodes, `(nodes, 2)`: forces from a circle (Fruchterman and Reingold 1991), deterministic."""
    count = len(sample.nodes)
    angle = 2 * np.pi * np.arange(count) / count
    places = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    if count > MAX_LAID_OUT or count < 3:
        return places
    linked = np.zeros((count, count), bool)
    linked[sample.ends[0], sample.ends[1]] = linked[sample.ends[1], sample.ends[0]] = True
    ideal = (4 / count) ** 0.5
    for step in range(steps):
        apart = places[:, None] - places
        distance = np.maximum(np.linalg.norm(apart, axis=2, keepdims=True), 1e-3)
        force = apart * (ideal**2 / distance**2 - linked[..., None] * distance / ideal)
        moved = force.sum(1)
        length = np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
        places = places + moved / length * np.minimum(length, 0.2 * (1 - step / steps))
    return places
