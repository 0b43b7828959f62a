"""Networks of PyTorch Geometric by name: equal to the library's own pipeline, and what is refused."""

from typing import Any

import pytest
import torch
from torch import nn

from mmalign.errors import UserError
from modalities.common.encoders.pyg_network import PygNetwork, known_networks, pyg

pytest.importorskip("torch_geometric")

NEEDED: dict[str, dict[str, Any]] = {
    "ChebConv": {"K": 2}, "SSGConv": {"alpha": 0.1}, "GCN2Conv": {"alpha": 0.1}, "PDNConv": {"hidden_channels": 4},
    "GatedGraphConv": {"num_layers": 1}, "FeaStConv": {"heads": 2},
}  # fmt: skip
SPARED = {"ARMAConv": ".weight", "MFConv": ".lins_"}
"""Parameters without a gradient by design: of further rounds, and of degrees that do not occur."""


def graph(width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three random graphs of 5, 1 and 7 nodes; the second has no edge."""
    generator = torch.Generator().manual_seed(seed)
    sizes, ends, start = (5, 1, 7), [], 0
    for size in sizes:
        pairs = torch.combinations(torch.arange(size)).T
        chosen = pairs[:, torch.rand(pairs.shape[1], generator=generator) < 0.6] + start
        ends += [chosen, chosen.flip(0)]
        start += size
    index = torch.cat(ends, 1)
    owner = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    nodes = torch.randn(13, width, generator=generator)
    return nodes, torch.randn(index.shape[1], width, generator=generator), index, owner


@pytest.mark.parametrize("name", known_networks())
def test_every_known_network_is_built_and_trains(name: str) -> None:
    torch.manual_seed(0)
    network = PygNetwork("pyg", name, 8, 2, args=NEEDED.get(name), degrees=(1, 3, 5, 2))
    nodes, edges, ends, owner = graph(8)
    nodes.requires_grad_()
    edges.requires_grad_()
    out, own = network(nodes, edges, ends, owner, 3)
    assert out.shape == nodes.shape
    (out.square().sum() + (0 if own is None else own.square().sum())).backward()
    dead = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [key for key in dead if SPARED.get(name, "/") not in key]
    assert nodes.grad is not None
    assert edges.grad is not None
    assert nodes.grad.isfinite().all()
    assert edges.grad.any(), "features of edges have no effect"


@pytest.mark.parametrize("name", ["GIN", "GAT", "PNA", "GraphSAGE", "GCN", "EdgeCNN", "AttentiveFP"])
def test_models_equal_those_of_the_library(name: str) -> None:
    """The library's model, built by hand with the same weights, on its own batch of `Data`."""
    from torch_geometric.data import Batch, Data

    degrees = (1, 3, 5, 2)
    network = PygNetwork("pyg", name, 8, 3, degrees=degrees).eval()
    settings: dict[str, Any] = {"num_layers": 3, "out_channels": 8}
    if name in ("GAT", "PNA", "AttentiveFP"):
        settings["edge_dim"] = 8
    if name == "PNA":
        settings |= {
            "aggregators": ["mean", "min", "max", "std"], "scalers": ["identity", "amplification", "attenuation"],
            "deg": torch.tensor(degrees),
        }  # fmt: skip
    if name == "AttentiveFP":
        settings["num_timesteps"] = 2
    else:
        settings |= {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}
    peer = getattr(pyg().models, name)(8, 8, **settings).eval()
    peer.load_state_dict(network.model.state_dict())
    nodes, edges, ends, owner = graph(8)
    samples = []
    for row in range(3):
        mine, inside = owner == row, owner[ends[0]] == row
        first = int(mine.nonzero()[0])
        samples.append(Data(x=nodes[mine], edge_index=ends[:, inside] - first, edge_attr=edges[inside]))
    batch: Any = Batch.from_data_list(samples)
    order = torch.cat([(owner[ends[0]] == row).nonzero().flatten() for row in range(3)])
    out, own = network(nodes, edges[order], ends[:, order], owner, 3)
    if name == "AttentiveFP":
        torch.testing.assert_close(own, peer(batch.x, batch.edge_index, batch.edge_attr, batch.batch))
    elif name in ("GAT", "PNA"):
        torch.testing.assert_close(out, peer(batch.x, batch.edge_index, edge_attr=batch.edge_attr))
    else:
        incoming = torch.stack([batch.edge_attr[batch.edge_index[1] == node].sum(0) for node in range(13)])
        torch.testing.assert_close(out, peer(batch.x + incoming, batch.edge_index))


def test_layers_of_a_convolution_equal_the_written_sum() -> None:
    r"""GINE by loops: `h + relu(mlp((1 + eps) g + sum relu(g_j + e)))` with `g` the normalised state."""
    network = PygNetwork("pyg", "GINEConv", 6, 2, args={"train_eps": True}).double().eval()
    nodes, edges, ends, owner = graph(6)
    nodes, edges = nodes.double(), edges.double()
    state = nodes
    for conv, norm in zip(network.layers, network.norms, strict=True):
        conv.eps.data.fill_(0.2)
        conv.lin = None  # no projection is needed at equal widths
        normed = nn.functional.layer_norm(state, (6,), norm.weight, norm.bias)
        sums = torch.zeros_like(state)
        for edge in range(edges.shape[0]):
            sums[ends[1, edge]] += torch.relu(normed[ends[0, edge]] + edges[edge])
        state = state + torch.relu(conv.nn(1.2 * normed + sums))
    torch.testing.assert_close(network(nodes, edges, ends, owner, 3)[0], state)


def test_low_precision_is_raised() -> None:
    network = PygNetwork("pyg", "PNA", 8, 2).eval()
    nodes, edges, ends, owner = graph(8)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = network(nodes.bfloat16(), edges.bfloat16(), ends, owner, 3)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, network(nodes, edges, ends, owner, 3)[0], atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        ("GINN", {}, "did you mean GIN"),
        ("attentivefp", {}, "did you mean AttentiveFP"),
        ("os.system", {}, "no network 'os.system'"),
        ("MLP", {}, "no network 'MLP'"),
        ("SplineConv", {}, "no network 'SplineConv'"),
        ("GAT", {"head": 2}, "GAT has no argument 'head'; did you mean 'heads'"),
        ("GIN", {"train_ep": True}, "did you mean 'train_eps'"),
        ("GIN", {"num_layers": 2}, "args cannot set 'num_layers'; use width, depth and dropout"),
        ("GATConv", {"heads": 3}, "3 heads do not divide the width"),
        ("GCN", {"aggr": "nothing"}, "cannot build GCN of width 8 with args {'aggr': 'nothing'}"),
        ("GIN", {"norm": "nothing"}, "cannot build GIN"),
        ("ChebConv", {}, "missing 1 required positional argument: 'K'"),
    ],
)
def test_unknown_names_and_arguments_are_named(model: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        PygNetwork("pyg", model, 8, 2, args=args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_mixes_samples_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from modalities.common.encoders import pyg_network

    monkeypatch.setattr(pyg_network, "_LEFT_OUT", pyg_network._LEFT_OUT - {"SGFormer"})
    with pytest.raises(UserError, match="depend on the other graphs"):
        PygNetwork("pyg", "SGFormer", 8, 2)
    with pytest.raises(UserError, match="depth must be at least 1"):
        PygNetwork("pyg", "GIN", 8, 0)
