"""The wheel alone gives a working command: recipes, modalities and entry points are inside."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_contents_of_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "mmalign/cli/__init__.py",
        "mmalign/py.typed",
        "modalities/image/__init__.py",
        "mmalign/recipes/image-text/clip.yaml",
    ):
        assert needed in names
    assert "modalities/__init__.py" not in names, "a namespace package overwrites nobody's file"
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mmalign", "modalities"}


def test_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path, forked_python: Path) -> None:
    site = tmp_path / "installed"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(python: Path | str, *command: str) -> str:
        ran = subprocess.run([str(python), *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    where = run(
        sys.executable, "-c", "import mmalign, mmalign.recipes as r; print(mmalign.__file__, r.folder())"
    ).split()
    assert all(path.startswith(str(site)) for path in where)
    brief = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
    run(forked_python, "-m", "mmalign", "train", "image-text/demo", *brief, "--out", "run")
    assert (tmp_path / "run" / "bundle" / "model.safetensors").is_file()
