"""Every objective on a pretended device: no operand on another one, and the host waits for no result of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.utils.backend_registration as registration

from mmalign import registry

ROOT = Path(__file__).resolve().parents[2]
SOLVERS = {"transport": 16, "prototypes": 16}
"""Objectives whose solver asks the device which problems are solved, and the most waits of a step of 12 rows."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """Objective -> `difference` from the step on the CPU and `waits`; the device can be made once in a process."""
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices that are defined in Python")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.gpu.host_waits"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("name", list(registry.names("objectives")))
def test_step_on_the_device(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    assert outcome.get("error") is None
    assert outcome["difference"] < 1e-5
    assert sum(outcome["waits"].values()) <= SOLVERS.get(name, 0), outcome["waits"]
