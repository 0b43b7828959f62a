"""A file written by `InMemoryDataset.save`: graphs joined attribute by attribute, with the bounds of each graph."""

import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.safe_io.tensor_files import load_tensors

EXPECTED = "a file of InMemoryDataset.save(graphs, path) with graphs of class Data"

_CLASSES = ("torch_geometric.data.data.Data", "torch_geometric.data.temporal.TemporalData")


class _Stated:
    """Stands for a class that the file names, so that nothing of that class is ever run."""


@dataclass(frozen=True)
class Collated:
    """Attributes of many graphs.

    Args:
        values: Attribute -> the graphs' tensors joined along one axis, or a list with one value per graph.
        slices: Attribute -> the start of each graph's part and the end of the last, `(graphs + 1,)`.
        count: Number of graphs.
    """

    values: Mapping[str, Tensor | list[Any]]
    slices: Mapping[str, list[int]]
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def names(self) -> list[str]:
        """The attributes."""
        return list(self.values)

    def row(self, index: int, names: Collection[str] | None = None) -> dict[str, Any]:
        """Attributes of one graph: strings, numbers and arrays; a tensor of one number is that number."""
        found: dict[str, Any] = {}
        for name, value in self.values.items():
            if names is not None and name not in names:
                continue
            start, end = self.slices[name][index], self.slices[name][index + 1]
            if isinstance(value, Tensor):
                part = value.narrow(_axis(name, value), start, end - start)
                alone = part.numel() == 1 and name not in ("x", "edge_index", "edge_attr")
                found[name] = part.item() if alone else part.numpy()
            else:
                found[name] = value[start] if end == start + 1 else value[start:end]
        return found


def read_collated(path: Path, most: int) -> Collated:
    """Read a file of tensors, strings and numbers; a class that it names is not imported, its code does not run.

    Args:
        path: The file.
        most: Maximum size in bytes, also unpacked.

    Raises:
        UserError: it is too large, contains other objects, or its bounds contradict its tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except Exception as error:  # torch raises arbitrary exceptions for damaged archives
        raise UserError(f"{path}: expected {EXPECTED}, got {' '.join(str(error).split())[:200]}") from error
    if size > most:
        raise UserError(f"{path}: expected at most {most >> 20} MB, got {size >> 20}; see --data.options.max_file_mb")
    try:
        with torch.serialization.safe_globals([(_Stated, name) for name in _CLASSES]):
            saved = load_tensors(path)
    except Exception as error:  # torch raises anything on damaged or hostile files
        lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line]
        reason = lines[0][:120] if lines else type(error).__name__
        raise UserError(
            f"{path}: expected {EXPECTED}: tensors, strings and numbers; got other objects ({reason}); save the data "
            "set again with a recent PyTorch Geometric"
        ) from error
    return _checked(saved, path)


def _checked(saved: Any, path: Path) -> Collated:
    if not isinstance(saved, tuple) or len(saved) < 2 or not isinstance(saved[0], dict):
        raise UserError(f"{path}: expected {EXPECTED}, got a {type(saved).__name__} of another form")
    data, bounds = saved[0], saved[1]
    values = {str(name).removeprefix("_"): value for name, value in data.items() if value is not None}
    if bounds is None:  # a single graph
        ends = {name: value.shape[_axis(name, value)] for name, value in values.items() if _joined(value)}
        alone = {name: value if _joined(value) else [value] for name, value in values.items()}
        return Collated(alone, {name: [0, ends.get(name, 1)] for name in alone}, 1)
    if not isinstance(bounds, dict):
        raise UserError(f"{path}: expected {EXPECTED}, got bounds that are a {type(bounds).__name__}")
    slices: dict[str, list[int]] = {}
    for name, bound in bounds.items():
        key = str(name).removeprefix("_")
        if key not in values or not _joined(bound) or bound.ndim != 1 or bound.is_floating_point():
            continue  # of an attribute in a form that is not read, such as a nested one
        slices[key] = bound.tolist()
    known = {name: value for name, value in values.items() if name in slices and (_joined(value) or _listed(value))}
    counts = {len(slices[name]) - 1 for name in known}
    if len(counts) != 1 or min(counts) < 1:
        raise UserError(f"{path}: expected {EXPECTED}, got attributes of {sorted(counts) or 'no'} graphs")
    for name, value in known.items():
        size = value.shape[_axis(name, value)] if isinstance(value, Tensor) else len(value)
        bound = slices[name]
        if bound[0] != 0 or bound[-1] > size or any(a > b for a, b in pairwise(bound)):
            raise UserError(f"{path}: the bounds of {name!r} are not ascending within its {size} entries")
    return Collated(known, slices, counts.pop())


def _axis(name: str, value: Tensor) -> int:
    """The axis along which PyTorch Geometric joins an attribute."""
    return value.ndim - 1 if "index" in name or name == "face" else 0


def _joined(value: Any) -> bool:
    """A dense tensor that holds as many numbers as it states."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or not value.ndim:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _listed(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str | int | float | bool) for one in value)
