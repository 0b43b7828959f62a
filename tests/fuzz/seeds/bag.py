"""Bags: matrices in NPY files, arrays and lists."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.case import Case
from tests.fuzz.seeds.reading import demand_array, single
from tests.fuzz.seeds.vector import WIDTH, npy


def seeds(folder: Path) -> dict[str, Case]:
    """Three members of width 16."""
    rows = np.random.default_rng(0).normal(size=(3, WIDTH))
    cases = {kind: single("b.npy", npy(rows.astype(kind))) for kind in ("f2", "<f4", ">f8", "i2")}
    cases["fortran"] = single("b.npy", npy(np.asfortranarray(rows)))
    cases["array"] = Case(value=rows)
    cases["list"] = Case(value=rows.tolist())
    return cases


def check(sample: Any) -> None:
    """Rows of finite numbers."""
    demand_array(sample, np.float32, 2, "bag")
