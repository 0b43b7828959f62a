"""Graphs: NPZ files and mappings."""

from pathlib import Path
from typing import Any

import numpy as np

from modalities.graph.sample import Graph, archive_of
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, single


def seeds(folder: Path) -> dict[str, Case]:
    """With and without fields, of integers and of floats; the fields are those of the toy samples."""
    from modalities.graph import MODALITY

    toy = MODALITY.toy_sample(3, np.random.default_rng(0))
    arrays = {"x": toy.nodes, "edge_index": toy.ends, "edge_attr": toy.edges}
    floats = {"x": np.zeros((3, 2), np.float32), "edge_index": np.array([[0, 1], [1, 2]])}
    bare = {"edge_index": np.array([[0, 1], [1, 2]]), "num_nodes": np.array(3)}
    all_kinds = {"toy": arrays, "floats": floats, "bare": bare}
    cases = {name: single("g.npz", archive_of(values)) for name, values in all_kinds.items()}
    return cases | {f"mapping-{name}": Case(value=values) for name, values in all_kinds.items()}


def check(sample: Any) -> None:
    """Nodes, and edges between them."""
    demand(isinstance(sample, Graph), f"a {type(sample).__name__}")
    for values, what in ((sample.nodes, "nodes"), (sample.edges, "edges")):
        demand(values.ndim == 2 and values.dtype in (np.float32, np.int64), f"{what}: {values.dtype} {values.shape}")
        demand(values.dtype.kind != "f" or bool(np.isfinite(values).all()), f"{what}: NaN or infinity")
    demand(sample.ends.dtype == np.int64 and sample.ends.shape == (2, len(sample.edges)), f"ends {sample.ends.shape}")
    low, high = (int(sample.ends.min()), int(sample.ends.max())) if sample.ends.size else (0, 0)
    demand(0 <= low <= high < len(sample.nodes), "edges to no node")
