"""Vectors: NPY files of each type and order, rows of a matrix, lists."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from modalities.vector.read import MAX_WIDTH
from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand, demand_array, single

WIDTH = 16


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def seeds(folder: Path) -> dict[str, Case]:
    """Width 16, as the toy samples have."""
    row = np.random.default_rng(0).normal(size=WIDTH)
    cases = {kind: single("v.npy", npy(row.astype(kind))) for kind in ("f2", "<f4", ">f8", "i2", "u1")}
    cases["one-row"] = single("v.npy", npy(row[None]))
    matrix = np.asfortranarray(np.stack([row, row * 2, row * 3]))
    cases["matrix"] = Case({"m.npy": npy(matrix)}, "m.npy#2")
    cases["array"] = Case(value=row)
    cases["list"] = Case(value=row.tolist())
    return cases


def check(sample: Any) -> None:
    """One row of finite numbers."""
    demand_array(sample, np.float32, 1, "vector")
    demand(len(sample) <= MAX_WIDTH, f"width {len(sample)}")
