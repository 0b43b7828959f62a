"""Fixtures of all tests: the real data folder, and one seed. Under `pytest -n` each worker computes on one thread."""

import atexit
import gc
import os
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch at import, and by the processes that tests start
    # Some hundred processes import the package: compile it once, also where the environment says otherwise.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False

import pytest
import torch

# A small model whose embeddings are known, for every folder that measures embeddings; processes that start quickly.
pytest_plugins = ["tests.known_space", "tests.tiny_models", "tests.forked_python.fixture"]

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Garbage collection of a whole session took a tenth of its time: it need not look at every test again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    atexit.register(gc.unfreeze)  # else packages report objects that are still alive at the end as leaks


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets (`MMALIGN_DATA`, default `../shared/data`), or a skip that says so."""
    folder = Path(os.environ.get("MMALIGN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set MMALIGN_DATA")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every test, in any order."""
    torch.manual_seed(0)
