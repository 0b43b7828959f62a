"""What every test may use: the real data folder, and one seed."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


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
