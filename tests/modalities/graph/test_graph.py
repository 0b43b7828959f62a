"""Graphs: what is read, what is refused, and that the order of nodes changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from mmalign.errors import BadSample, UserError
from modalities.graph import MODALITY
from modalities.graph.picture import layout
from modalities.graph.sample import MAX_NODES, Graph, archive_of
from modalities.graph.transform import GraphTransform

ENDS = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])


def test_every_accepted_type_of_graph(tmp_path: Path) -> None:
    data = pytest.importorskip("torch_geometric.data")
    arrays = {"x": np.array([[0.5], [1.0], [2.0]]), "edge_index": ENDS, "edge_attr": np.array([1, 1, 2, 2])}
    expected = MODALITY.read(arrays)
    assert expected.nodes.dtype == np.float32
    assert expected.edges.shape == (4, 1)
    np.savez(tmp_path / "one.npz", **arrays)
    archive = archive_of(arrays)
    assert archive == archive_of(arrays)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    for source in (tmp_path / "one.npz", str(tmp_path / "one.npz"), archive, data.Data(**tensors), tensors, expected):
        assert MODALITY.read(source) == expected
    bare = MODALITY.read(data.Data(edge_index=torch.from_numpy(ENDS), num_nodes=5))
    assert bare.nodes.tolist() == [[0]] * 5
    assert bare.edges.shape == (4, 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"x": np.zeros((2, 1))}, "got one without edge_index (x)"),
        ({"edge_index": np.zeros((3, 2), int), "num_nodes": 2}, "of shape (2, edges), got int64 of shape (3, 2)"),
        ({"edge_index": np.zeros((2, 2)), "num_nodes": 2}, "got float64"),
        ({"edge_index": ENDS, "num_nodes": 2}, "edge_index of nodes 0..1, got 0..2"),
        ({"edge_index": -ENDS, "num_nodes": 3}, "got -2..0"),
        ({"edge_index": ENDS}, "x, or num_nodes as one integer, got neither"),
        ({"edge_index": ENDS, "num_nodes": MAX_NODES + 1}, f"1 to {MAX_NODES} nodes"),
        ({"edge_index": ENDS, "num_nodes": 10**18}, f"1 to {MAX_NODES} nodes"),
        ({"edge_index": ENDS[:, :0], "num_nodes": 0}, "1 to 65536 nodes, got 0"),
        ({"edge_index": ENDS, "x": np.array([[1.0], [np.nan], [0]])}, "NaN or infinity"),
        ({"edge_index": ENDS, "x": np.array([[1e300], [1], [0]])}, "NaN or infinity"),
        ({"edge_index": ENDS, "x": np.zeros((3, 1, 1))}, "shape (3, 1, 1)"),
        ({"edge_index": ENDS, "x": np.array(["a", "b", "c"])}, "x as an array of numbers"),
        ({"edge_index": ENDS, "num_nodes": 3, "edge_attr": np.zeros((3, 1))}, "edge_attr of 4 edges, got 3"),
        ({"edge_index": torch.eye(2).to_sparse(), "num_nodes": 3}, "edge_index as a dense tensor"),
        (b"PK", "a readable NPZ file"),
        ("nowhere.npz", "no such file"),
    ],
)
def test_invalid_graphs_are_rejected(source: Any, message: str) -> None:
    with pytest.raises(BadSample) as caught:
        MODALITY.read(source)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["integers", "floats"])
@pytest.mark.parametrize("model", ["GIN", "AttentiveFP", "GATv2Conv"])
def test_the_order_of_nodes_and_edges_changes_nothing(kind: str, model: str) -> None:
    rng = np.random.default_rng(0)
    graphs = [MODALITY.toy_sample(label, rng) for label in range(10)]
    if kind == "floats":
        graphs = [
            Graph(rng.normal(3, 2, (len(g.nodes), 3)).astype(np.float32), g.edges * np.float32(0.5), g.ends)
            for g in graphs
        ]
    transform = MODALITY.transform("pyg", {})
    transform.fit(graphs)
    encoder = MODALITY.encoder("pyg", transform, model=model, width=12, depth=2).eval()
    orders = [rng.permutation(len(g.nodes)) for g in graphs]
    edges = [rng.permutation(g.ends.shape[1]) for g in graphs]
    shuffled = [
        Graph(g.nodes[order], g.edges[edge], np.argsort(order)[g.ends][:, edge])
        for g, order, edge in zip(graphs, orders, edges, strict=True)
    ]
    a, b = (encoder(transform.collate([transform.item(g) for g in many])) for many in (graphs, shuffled))
    torch.testing.assert_close(a.vector, b.vector, atol=1e-5, rtol=1e-4)
    for row, order in enumerate(orders):
        ours, moved = a.tokens.values[row][order], b.tokens.values[row][: len(order)]
        torch.testing.assert_close(ours, moved, atol=1e-5, rtol=1e-4)
    assert torch.pdist(a.vector).min() > 1e-4


def test_fields_are_standardised_or_bucketed_by_the_training_graphs() -> None:
    floats = [Graph(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32), np.zeros((0, 0), np.int64), ENDS[:, :0])]
    transform = GraphTransform()
    transform.fit(floats)
    np.testing.assert_allclose(transform.item(floats[0]).nodes, [[-1, 0], [1, 0]])
    assert transform.degrees == [2]
    transform = GraphTransform()
    integers = [MODALITY.read({"edge_index": ENDS, "x": np.array([-2, 0, 3])})]
    transform.fit(integers)
    other = MODALITY.read({"edge_index": ENDS, "x": np.array([-3, 3, 4])})
    assert transform.item(other).nodes.tolist() == [[0], [6], [0]]
    assert transform.degrees == [0, 2, 1]
    again = MODALITY.restore_transform(transform.config())
    assert again.item(other).nodes.tolist() == [[0], [6], [0]]
    with pytest.raises(BadSample, match="1 fields of integers in x, as in training, got 2 of floats"):
        transform.item(floats[0])
    with pytest.raises(UserError, match="range of 100000"):
        GraphTransform().fit([MODALITY.read({"edge_index": ENDS, "x": np.array([0, 5, 100_000])})])
    with pytest.raises(UserError, match="the same fields of x"):
        GraphTransform().fit([*integers, *floats])
    with pytest.raises(UserError, match="needs training graphs"):
        GraphTransform().fit([])
    with pytest.raises(UserError, match="fit the transform"):
        MODALITY.encoder("pyg", GraphTransform())


@pytest.mark.parametrize("model", ["GCN", "PNA", "AttentiveFP", "GINEConv"])
def test_edges_without_fields_and_graphs_without_edges(model: str) -> None:
    graphs = [MODALITY.read({"edge_index": ends, "num_nodes": 3}) for ends in (ENDS, ENDS[:, :0], ENDS[:, :2])]
    transform = MODALITY.transform("pyg", {})
    transform.fit(graphs)
    encoder = MODALITY.encoder("pyg", transform, model=model, width=12, depth=2).eval()
    vectors = encoder(transform.collate([transform.item(graph) for graph in graphs])).vector
    if model in ("PNA", "GINEConv"):  # the others compare nodes with their neighbours: here all are equal
        assert torch.pdist(vectors).min() > 1e-4
    alone = encoder(transform.collate([transform.item(graphs[1])])).vector
    torch.testing.assert_close(alone[0], vectors[1], atol=1e-5, rtol=1e-4)


def test_nodes_are_laid_out_apart_and_weighted() -> None:
    sample = MODALITY.toy_sample(0, np.random.default_rng(0))
    places = layout(sample)
    apart = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(len(places), 1)]
    assert apart.min() > 0.05
    axes = Figure().subplots()
    MODALITY.weighted_picture(sample, axes, list(range(len(places))))
    with pytest.raises(UserError, match="one a node"):
        MODALITY.weighted_picture(sample, axes, [1.0])
    MODALITY.picture(MODALITY.read({"edge_index": ENDS, "num_nodes": 500}), axes)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    transform = MODALITY.transform("pyg", {})
    transform.fit([MODALITY.toy_sample(0, np.random.default_rng(0))])
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    with pytest.raises(UserError, match=r"pip install 'mmalign\[graph\]'"):
        MODALITY.encoder("pyg", transform)
