"""`Data` objects of PyTorch Geometric, recognised without importing it."""

from typing import Any


def is_data(value: Any) -> bool:
    """Whether it is a `torch_geometric.data.Data`.

    Example:
        >>> is_data({"edge_index": []})
        False
    """
    return any(f"{kind.__module__}.{kind.__name__}" == "torch_geometric.data.data.Data" for kind in type(value).__mro__)
