"""The fixture `forked_python`: commands `python` and `mmalign` that need not import the heavy packages each time."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PACKAGES = [
    "torch", "numpy", "scipy.signal", "scipy.stats", "pandas", "pyarrow.parquet", "sklearn.linear_model",
    "torchmetrics", "torchvision.transforms.v2", "pytorch_lightning", "safetensors.torch", "tokenizers", "transformers",
    "matplotlib.figure", "matplotlib.backends.backend_agg", "jsonargparse", "rich.console", "rdkit.Chem", "pydicom",
    "PIL.Image", "yaml", "open_clip", "peft", "trimesh", "av",
]  # fmt: skip


@pytest.fixture(scope="session")
def forked_python() -> Iterator[Path]:
    """A command that acts as `python -m MODULE`, `-c PROGRAM` and `FILE`; beside it in its folder, `mmalign`.

    Each call is a process of its own, with its own folder, environment, streams, signals and exit status, forked from a
    server that has imported the packages that mmalign depends on. It computes on one thread. All processes of a test
    session have one seed of hashes. For the time of a start, for imports and for entry points, use `sys.executable`.
    """
    if hasattr(os, "pidfd_open"):
        with start_server(PACKAGES) as python:
            yield python
    else:  # not Linux
        yield Path(sys.executable)


@contextmanager
def start_server(packages: Sequence[str]) -> Iterator[Path]:
    """A server that has imported the packages, for the time of the block; the command `python` that it serves."""
    with tempfile.TemporaryDirectory(prefix="python") as name:  # short: the path of a socket has at most 107 bytes
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, str(HERE / "server.py"), f"{name}/socket", *packages]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n", "the server has not started; its error stands in stderr"
            client = [sys.executable, "-IS", str(HERE / "client.py"), f"{name}/socket"]
            _write_command(Path(name) / "python", client)
            _write_command(Path(name) / "mmalign", [*client, str(Path(sys.executable).parent / "mmalign")])
            yield Path(name) / "python"
        # The block closes the standard input of the server, which ends it, and waits for it.


def _write_command(path: Path, command: list[str]) -> None:
    """Write a shell script that is replaced by the command, followed by the arguments of the script."""
    one_thread = 'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"'
    path.write_text(f'#!/bin/sh\n{one_thread}\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
