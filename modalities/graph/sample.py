"""One graph in memory, and what it is read from."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.common.reading.any_source import read_any
from modalities.common.reading.local_file import demand_file
from modalities.common.reading.npy import archive_arrays
from modalities.common.reading.pyg_data import is_data

MAX_NODES, MAX_EDGES, MAX_FIELDS = 1 << 16, 1 << 20, 4096
MAX_BYTES = 1 << 28
"""Maximum size of one array in a file."""

NAMES = ("x", "edge_index", "edge_attr", "num_nodes")
"""PyTorch Geometric's names of the arrays."""

WANTED = "a graph: a Data of PyTorch Geometric, a mapping or an .npz file with edge_index, and x or num_nodes"


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph.

    Args:
        nodes: Fields of each node, `(nodes, fields)`, float32 or int64.
        edges: Fields of each edge, `(edges, fields)`, float32 or int64; no column if edges have no fields.
        ends: Each edge's nodes, from and to, `(2, edges)`, int64. An undirected edge is there twice.
    """

    nodes: NDArray[Any]
    edges: NDArray[Any]
    ends: NDArray[np.int64]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.nodes.tobytes(), self.ends.tobytes()))

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.nodes.nbytes + self.edges.nbytes + self.ends.nbytes


def read_graph(source: Any) -> Graph:
    """Read one graph.

    Args:
        source: A `Data` of PyTorch Geometric, the path or the bytes of an NPZ file, or a mapping, with `edge_index (2,
            edges)`, `x (nodes, fields)` and `edge_attr (edges, fields)` of integers or floats. Without `x`, `num_nodes`
            states the number of nodes. Other attributes are ignored. A `Graph` is returned.

    Raises:
        BadSample: an array is missing, has another shape or a value that is not finite, or the graph is too large.

    Example:
        >>> import numpy as np
        >>> read_graph({"edge_index": np.array([[0, 1], [1, 2]]), "num_nodes": 3}).nodes.shape
        (3, 1)
    """
    if isinstance(source, Graph):
        return source
    if is_data(source):
        return graph_of({name: getattr(source, name, None) for name in NAMES}, type(source).__name__)
    return read_any(
        source, kind="graph", expected=WANTED, path=_from_path, data=_from_bytes, mapping=graph_of, most=2 * MAX_BYTES
    )[1]


def graph_of(arrays: Mapping[Any, Any], where: str) -> Graph:
    """A graph of named arrays or tensors, checked; see `read_graph`."""
    ends = _array(arrays.get("edge_index"), where, "edge_index")
    if ends is None:
        raise BadSample(where, WANTED, f"one without edge_index ({', '.join(map(str, list(arrays)[:8])) or 'empty'})")
    if ends.ndim != 2 or ends.shape[0] != 2 or (ends.size and ends.dtype.kind not in "iu"):
        raise BadSample(where, "edge_index of integers, of shape (2, edges)", f"{ends.dtype} of shape {ends.shape}")
    if ends.shape[1] > MAX_EDGES:
        raise BadSample(where, f"at most {MAX_EDGES} edges", str(ends.shape[1]))
    nodes = _fields(arrays.get("x"), where, "x")
    if nodes is None:
        nodes = np.zeros((_count(arrays.get("num_nodes"), where), 1), np.int64)
    if not 1 <= len(nodes) <= MAX_NODES:
        raise BadSample(where, f"a graph of 1..{MAX_NODES} nodes", str(len(nodes)))
    if ends.size and not 0 <= int(ends.min()) <= int(ends.max()) < len(nodes):
        raise BadSample(where, f"edge_index of nodes 0..{len(nodes) - 1}", f"{int(ends.min())}..{int(ends.max())}")
    edges = _fields(arrays.get("edge_attr"), where, "edge_attr")
    if edges is None:
        edges = np.zeros((ends.shape[1], 0), np.int64)
    if len(edges) != ends.shape[1]:
        raise BadSample(where, f"edge_attr of {ends.shape[1]} edges", f"{len(edges)}")
    return Graph(nodes, edges, ends.astype(np.int64))


def archive_of(arrays: Mapping[str, Any]) -> bytes:
    """Named arrays as an NPZ file that `read_graph` reads; equal arrays are equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays.items():
            content = io.BytesIO()
            np.save(content, np.asarray(value), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())  # without the time of writing
    return stream.getvalue()


def _from_path(path: Path) -> Graph:
    demand_file(path, "an .npz file")
    size = path.stat().st_size
    if size > 2 * MAX_BYTES:
        raise BadSample(str(path), f"a file of at most {2 * MAX_BYTES} bytes", str(size))
    return _from_bytes(path.read_bytes(), str(path))


def _from_bytes(data: bytes, where: str) -> Graph:
    return graph_of(archive_arrays(data, NAMES, where, most=MAX_BYTES, small=("num_nodes",)), where)


def _array(value: Any, where: str, name: str) -> NDArray[Any] | None:
    if value is None:
        return None
    if hasattr(value, "detach"):
        if str(value.layout) != "torch.strided":
            raise BadSample(where, f"{name} as a dense tensor", str(value.layout))
        value = value.detach().cpu().float() if value.is_floating_point() else value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BadSample(where, f"{name} as an array of numbers", f"a {type(value).__name__}") from error
    if array.dtype.kind not in "biuf":
        raise BadSample(where, f"{name} as an array of numbers", f"one of {array.dtype}")
    return array


def _fields(value: Any, where: str, name: str) -> NDArray[Any] | None:
    array = _array(value, where, name)
    if array is None:
        return None
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] > MAX_FIELDS:
        raise BadSample(where, f"{name} of shape (rows, 0..{MAX_FIELDS} fields)", f"shape {array.shape}")
    if array.dtype.kind != "f":
        return array.astype(np.int64)
    with np.errstate(all="ignore"):  # NaN and infinity are refused below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise BadSample(where, f"finite numbers in {name}", "NaN or infinity")
    return array


def _count(value: Any, where: str) -> int:
    array = _array(value, where, "num_nodes")
    if array is None or array.size != 1 or array.dtype.kind not in "iu":
        raise BadSample(where, "x, or num_nodes as one integer", "neither" if array is None else str(value)[:40])
    count = int(array.reshape(()))
    if not 0 < count <= MAX_NODES:
        raise BadSample(where, f"1 to {MAX_NODES} nodes", str(count))
    return count
