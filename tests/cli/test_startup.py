"""What commands and use do not import: packages that take seconds and hundreds of megabytes to load."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mmalign
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig
from tests.forked_python.fixture import start_server

HEAVY = ["pytorch_lightning", "torchmetrics", "torchvision", "scipy.signal", "matplotlib.pyplot", "torch._dynamo"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle `bundle` of text and vectors, and a table `rows.csv` of sentences."""
    folder = tmp_path_factory.mktemp("startup")
    towers = {
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
        "vector": TowerConfig(args={"width": 4}),
    }
    torch.manual_seed(0)
    transforms = fit_transforms(towers, {"text": ["one", "two", "three"], "vector": []})
    mmalign.save(Aligner(towers, [PairConfig("text", "vector")], 2, transforms), folder / "bundle")
    (folder / "rows.csv").write_text("id,text\n1,one\n2,two\n3,three\n")
    return folder


@pytest.fixture(scope="module")
def python_with_torch() -> Iterator[Path]:
    """A command that starts with torch imported and nothing else."""
    with start_server(["torch"]) as python:
        yield python


def imported(program: str, folder: Path, packages: list[str], python: Path | str = sys.executable) -> list[str]:
    """Those of the packages that an interpreter has imported after the program."""
    ending = f"\nimport sys\nprint('|'.join(name for name in {packages} if name in sys.modules), file=sys.stderr)"
    ran = subprocess.run([str(python), "-c", program + ending], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.strip().splitlines()[-1].split("|") if ran.stderr.strip() else []


def command(arguments: list[str]) -> str:
    """A program that runs a command and survives its SystemExit."""
    return f"from mmalign.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize("program", ["import mmalign", command(["--help"]), command(["--version"])])
def test_import_and_help_do_not_load_torch(program: str, folder: Path) -> None:
    assert not imported(program, folder, ["torch", "numpy", "jsonargparse", "rich"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["check", "--data.manifest", "rows.csv", "--data.columns.text", "text"],
        ["embed", "bundle", "text", "table.parquet", "--data.manifest", "rows.csv", "--data.columns.text", "text"],
        ["train", "image-text", "--help"],
        *([name, "--help"] for name in ("evaluate", "check", "embed", "search", "explain", "demo")),
    ],
    ids=" ".join,
)
def test_commands_do_not_load_what_they_do_not_use(arguments: list[str], folder: Path, python_with_torch: Path) -> None:
    assert not imported(command(arguments), folder, HEAVY, python_with_torch)


def test_import_check_detects_a_heavy_import(folder: Path, python_with_torch: Path) -> None:
    assert imported("import scipy.signal", folder, HEAVY, python_with_torch) == ["scipy.signal"]


def test_load_and_encode_do_not_load_what_they_do_not_use(folder: Path, python_with_torch: Path) -> None:
    program = "import mmalign\nmmalign.load('bundle').encode('text', ['one'] * 10)"
    assert not imported(
        program, folder, [*HEAVY, "jsonargparse", "rich", "sklearn", "pyarrow", "matplotlib"], python_with_torch
    )
