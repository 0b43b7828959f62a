"""Molecules to test on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def corpus(real_data: Path) -> Callable[[int], list[str]]:
    """So many SMILES of the ChEBI-20 corpus, drawn once for all."""
    lines = (real_data / "chebi20" / "corpus_smiles.txt").read_text(encoding="utf-8").splitlines()[1:]
    order = np.random.default_rng(0).permutation(len(lines))
    return lambda count: [lines[place].split("\t")[1] for place in order[:count]]
