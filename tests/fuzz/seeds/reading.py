"""Cases from files, and checks that several modalities share."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.case import Case, Nonsense

TESTS = Path(__file__).resolve().parents[2]
for _name in ("ecg", "echo", "pointcloud"):  # the writers of golden files import each other by their bare names
    sys.path.append(str(TESTS / "modalities" / _name))


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def single(name: str, data: bytes, **beside: bytes) -> Case:
    """A file of this name; `beside` are further files, with `__` for the dot."""
    return Case({name: data, **{key.replace("__", "."): value for key, value in beside.items()}}, name)


def demand(holds: bool, what: str) -> None:
    """Raise `Nonsense` unless it holds."""
    if not holds:
        raise Nonsense(what)


def demand_array(values: Any, dtype: Any, ndim: int, what: str) -> None:
    """A non-empty array of one type and number of axes, without NaN and infinity."""
    demand(isinstance(values, np.ndarray), f"{what}: a {type(values).__name__}")
    demand(values.dtype == dtype, f"{what}: {values.dtype} values")
    demand(values.ndim == ndim and values.size > 0, f"{what}: shape {values.shape}")
    demand(values.dtype.kind != "f" or bool(np.isfinite(values).all()), f"{what}: NaN or infinity")
