"""What the tests of the echo modality share."""

import sys
from pathlib import Path

import numpy as np
import pytest

from modalities.echo import MODALITY

sys.path.insert(0, str(Path(__file__).parent))  # the writers are a module that the tests import


@pytest.fixture
def heart() -> object:
    return MODALITY.toy_sample(1, np.random.default_rng(1))
