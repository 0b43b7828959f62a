"""Graph networks of PyTorch Geometric, chosen by name, over one graph that joins all samples of a batch."""

import difflib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.registry import missing_extra, nearest

CONV_OF = {"GCN": "GCNConv", "GraphSAGE": "SAGEConv", "GIN": "GINConv", "GAT": "GATv2Conv", "PNA": "PNAConv",
           "EdgeCNN": "EdgeConv"}  # fmt: skip
"""Model -> the convolution that receives its further arguments."""

PNA = {"aggregators": ["mean", "min", "max", "std"], "scalers": ["identity", "amplification", "attenuation"]}
"""Of Principal Neighbourhood Aggregation (Corso et al. 2020, arXiv 2004.05718, section 2.3)."""

_INPUTS = {"x", "edge_index", "edge_attr", "batch", "x_0"}
_SET_HERE = {"in_channels", "out_channels", "channels", "edge_dim", "nn", "in_edge_channels", "deg"}
_SET_FOR_MODELS = {"hidden_channels", "num_layers", "depth", "dropout"}
_LEFT_OUT = {
    "CuGraphSAGEConv", "CuGraphGATConv", "CuGraphRGCNConv", "FusedGATConv", "PANConv", "SplineConv",  # need a library
    "RGCNConv", "FastRGCNConv", "RGATConv", "FiLMConv", "GMMConv", "NNConv",  # typed edges, or edges as coordinates
    "DNAConv", "GPSConv", "MixHopConv", "MeshCNNConv", "WLConv",  # another shape, or another module inside
    "LINKX", "NeuralFingerprint", "ARLinkPredictor",  # no vector for each node of any graph
    "SGFormer", "Polynormer",  # their attention is over the batch, or off until a flag is set
}  # fmt: skip


class PygNetwork(nn.Module):
    """A model of `torch_geometric.nn.models`, or layers of one convolution of `torch_geometric.nn.conv`.

    Layers of a convolution are pre-norm with a residual connection: `h + act(conv(norm(h)))`. A network without edge
    features receives them added to its nodes, as the sum over each node's incoming edges.

    Args:
        encoder: The encoder's name, for messages.
        model: Name of the model (`GIN`, `GAT`, `PNA`, `AttentiveFP`) or of the convolution (`GINEConv`).
        width: Size of a node's and of an edge's vector.
        depth: Layers.
        dropout: Fraction of units dropped in training.
        args: Further arguments of the model or of its convolution, such as `{heads: 4}`.
        degrees: Number of training nodes with 0, 1, 2, ... incoming edges: the statistics that PNA scales by.

    Shape:
        nodes `(nodes, width)`, edges `(edges, width)`, ends `(2, edges)` from and to, owner `(nodes,)` in 0..batch-1 ->
        nodes `(nodes, width)`, and the model's own vectors `(batch, width)`, None if it has none.

    Raises:
        UserError: unknown model or argument, or the network does not map a graph's nodes to as many vectors.

    Example:
        >>> network = PygNetwork("pyg", "GATv2Conv", 8, 2, args={"heads": 2})
        >>> ends = torch.tensor([[0, 1], [1, 0]])
        >>> network(torch.ones(3, 8), torch.ones(2, 8), ends, torch.tensor([0, 0, 1]), 2)[0].shape
        torch.Size([3, 8])
    """

    def __init__(
        self,
        encoder: str,
        model: str,
        width: int,
        depth: int,
        *,
        dropout: float = 0.0,
        args: Mapping[str, Any] | None = None,
        degrees: Sequence[int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        known = known_networks()
        if model not in known:
            raise UserError(f"encoder {encoder!r}: PyTorch Geometric has no network {model!r} for graphs{_near(model)}")
        if depth < 1 or width < 1:
            raise UserError(f"encoder {encoder!r}: width and depth must be at least 1, got {width} and {depth}")
        kind, args = known[model], dict(args or {})
        _check_arguments(encoder, kind, args)
        takes_edges = getattr(kind, "supports_edge_attr", "edge_attr" in _parameters(kind.forward))
        self.edges_as_nodes = not (takes_edges and (hasattr(kind, "supports_edge_attr") or _edge_name(kind)))
        self.whole = not model.endswith("Conv") and hasattr(pyg().models, model)
        self.pooled = model == "AttentiveFP"
        self.inputs = set(_parameters(kind.forward)) & _INPUTS
        setting = _Setting(kind, width, depth, dropout, args, degrees, edges=not self.edges_as_nodes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self.whole:
                    self.model = setting.model()
                else:
                    self.layers = nn.ModuleList(setting.conv() for _ in range(depth))
                    self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
                    self.dropout = nn.Dropout(dropout)
                self._probe(width)
        except (ImportError, TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError,
                NotImplementedError, RuntimeError) as error:  # fmt: skip
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(
                f"encoder {encoder!r}: cannot build {model} of width {width} with args {args}: {reason}"
            ) from error

    def forward(
        self, nodes: Tensor, edges: Tensor, ends: Tensor, owner: Tensor, batch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Run the network, in float32 under autocast: its scatter operations do not mix precisions."""
        with torch.autocast(nodes.device.type, enabled=False):
            nodes, edges = nodes.to(self._dtype), edges.to(self._dtype)
            if self.edges_as_nodes:
                nodes = nodes.index_add(0, ends[1], edges)
            if self.whole:
                return self._model(nodes, edges, ends, owner)
            first = nodes
            for layer, norm in zip(self.layers, self.norms, strict=True):
                given = {"x": norm(nodes), "edge_index": ends, "edge_attr": edges, "batch": owner, "x_0": first}
                nodes = nodes + self.dropout(torch.relu(layer(**self._wanted(given))))
            return nodes, None

    @property
    def _dtype(self) -> torch.dtype:
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    def _wanted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in given.items()
            if name in self.inputs and not (name == "edge_attr" and self.edges_as_nodes)
        }

    def _model(self, nodes: Tensor, edges: Tensor, ends: Tensor, owner: Tensor) -> tuple[Tensor, Tensor | None]:
        given = self._wanted({"x": nodes, "edge_index": ends, "edge_attr": edges, "batch": owner})
        if not self.pooled:
            return self.model(**given), None
        atoms: list[Tensor] = []  # AttentiveFP returns the graphs alone; its readout receives the states of the nodes
        hook = self.model.mol_conv.register_forward_pre_hook(lambda _, inputs: atoms.append(inputs[0][0]))
        try:
            graphs = self.model(**given)
        finally:
            hook.remove()
        return atoms[0], graphs

    def _probe(self, width: int) -> None:
        """Run two small graphs, together and alone: shapes, and whether samples influence each other."""
        nodes = torch.linspace(-1, 1, 7 * width).view(7, width).sin()
        ends = torch.tensor([[0, 1, 1, 2, 4, 5, 5, 6, 4, 6], [1, 0, 2, 1, 5, 4, 6, 5, 6, 4]])
        owner, edges = torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.linspace(0, 1, 10 * width).view(10, width)
        was = self.training
        self.eval()
        with torch.no_grad():
            together, _ = self(nodes, edges, ends, owner, 2)
            if not isinstance(together, Tensor) or together.shape != nodes.shape:
                shape = tuple(together.shape) if isinstance(together, Tensor) else type(together).__name__
                raise ValueError(f"expected one vector of size {width} for each of 7 nodes, got {shape}")
            alone, _ = self(nodes[4:], edges[4:], ends[:, 4:] - 4, owner[4:] - 1, 1)
        if not torch.allclose(alone, together[4:], atol=1e-3, rtol=1e-3):
            raise ValueError("its vectors of one graph depend on the other graphs of the batch")
        self.train(was)


class _Setting:
    """Arguments of one model or convolution."""

    def __init__(
        self,
        kind: Any,
        width: int,
        depth: int,
        dropout: float,
        args: dict[str, Any],
        degrees: Sequence[int],
        *,
        edges: bool,
    ) -> None:
        self.kind, self.width, self.depth, self.args = kind, width, depth, args
        self.own = _parameters(kind.__init__)
        self.values: dict[str, Any] = {}
        if kind.__name__.startswith("PNA"):
            self.values |= PNA | {"deg": torch.tensor(degrees)}
        if edges and (name := _edge_name(kind) or "edge_dim"):
            self.values[name] = width
        if "dropout" in self.own and kind.__name__ not in pyg().conv.__all__:
            self.values["dropout"] = dropout

    def model(self) -> Any:
        values = {"in_channels": self.width, "hidden_channels": self.width, "out_channels": self.width}
        values |= {name: self.depth for name in ("num_layers", "depth") if name in self.own}
        if "num_timesteps" in self.own:
            values["num_timesteps"] = 2
        if "norm" in self.own and "norm_kwargs" in self.own and "norm" not in self.args:
            self.values |= {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}
        return self.kind(**{name: v for name, v in values.items() if name in self.own} | self.values | self.args)

    def conv(self) -> Any:
        divided = self.args.get("heads", 1) if self.args.get("concat", "concat" in self.own) else 1
        if self.width % divided:
            raise ValueError(f"{divided} heads do not divide the width")
        values: dict[str, Any] = {"in_channels": self.width, "out_channels": self.width // divided,
                                  "channels": self.width}  # fmt: skip
        values = {name: value for name, value in values.items() if name in self.own}
        if "nn" in self.own:  # a perceptron; EdgeConv's receives two nodes
            inputs = self.width * (2 if self.kind.__name__ == "EdgeConv" else 1)
            values["nn"] = nn.Sequential(
                nn.Linear(inputs, 2 * self.width), nn.ReLU(), nn.Linear(2 * self.width, self.width)
            )
        return self.kind(**values | self.values | self.args)


def pyg() -> ModuleType:
    """`torch_geometric.nn`, imported on first use.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's deprecated functions
            networks = import_module("torch_geometric.nn")
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "torch_geometric", "graph") from error
    return networks


def known_networks() -> dict[str, Any]:
    """Names of models and convolutions that need nothing but nodes, edges and a batch -> their class."""
    known: dict[str, Any] = {}
    for module in (pyg().models, pyg().conv):
        for name in module.__all__:
            kind: Any = getattr(module, name)
            if not inspect.isclass(getattr(module, name)) or name in _LEFT_OUT:
                continue
            required = _required(kind.forward)
            channels = {"in_channels", "channels", "out_channels", "nn"} & set(_parameters(kind.__init__))
            whole = module is pyg().models and "hidden_channels" not in _parameters(kind.__init__)
            if {"x", "edge_index"} <= required <= _INPUTS and channels and not whole:
                known[name] = kind
    return known


def _check_arguments(encoder: str, kind: Any, args: Mapping[str, Any]) -> None:
    names = set(_parameters(kind.__init__))
    conv = CONV_OF.get(kind.__name__)
    bases = [kind, *([getattr(pyg().conv, conv)] if conv else [])]
    for base in bases:
        names |= set(_parameters(base.__init__))
        if issubclass(base, pyg().conv.MessagePassing):
            names |= {"aggr", "aggr_kwargs"}
    names |= {"v2"} if kind.__name__ == "GAT" else set()
    whole = "hidden_channels" in _parameters(kind.__init__) and kind.__name__ in pyg().models.__all__
    refused = _SET_HERE | (_SET_FOR_MODELS if whole else set()) | ({"dim"} if kind.__name__ == "CGConv" else set())
    for name in args:
        if name in refused:
            raise UserError(f"encoder {encoder!r}: args cannot set {name!r}; use width, depth and dropout")
        if name not in names:
            known = names - refused
            raise UserError(f"encoder {encoder!r}: {kind.__name__} has no argument {name!r}{nearest(name, known)}")


def _edge_name(kind: Any) -> str:
    """The argument that states the size of an edge's vector, "" if there is none."""
    if kind.__name__ == "CGConv":
        return "dim"
    names = _parameters(kind.__init__)
    return next((name for name in ("edge_dim", "in_edge_channels") if name in names), "")


def _near(model: str) -> str:
    known = list(known_networks())
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(model).lower(), lower, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(lower[name] for name in close)}?" if close else ""
    return f"{hint} (known: {', '.join(known)})"


def _parameters(function: Any) -> list[str]:
    with suppress(TypeError, ValueError):
        return [
            name
            for name, one in inspect.signature(function).parameters.items()
            if name != "self" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
    return []


def _required(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters
    return {name for name in _parameters(function) if parameters[name].default is inspect.Parameter.empty}
