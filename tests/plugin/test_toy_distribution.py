"""A stranger's distribution registers a modality, an objective and a source, and trains with them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the toy by pip, as a user would, into a folder of its own."""
    source, target = tmp_path_factory.mktemp("source") / "toy", tmp_path_factory.mktemp("site")
    shutil.copytree(TOY, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def mmalign(python: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(python), "-m", "mmalign", *arguments], env=environment, capture_output=True, text=True)


def test_list_shows_the_external_modality(installed: Path) -> None:
    listed = json.loads(mmalign(Path(sys.executable), installed, "list", "--json").stdout)
    assert listed["modalities"]["tone"]["from"] == "toy-tones"
    assert listed["objectives"]["margin"]["about"].startswith("Hinge")
    assert "tones" in listed["sources"]


def test_external_package_trains_and_evaluates(installed: Path, tmp_path: Path, forked_python: Path) -> None:
    run = tmp_path / "run"
    trained = mmalign(forked_python, installed, "train", str(TOY / "recipe.yaml"), "--out", str(run))
    assert trained.returncode == 0, trained.stderr
    result = tmp_path / "result.json"
    measured = mmalign(forked_python, installed, "evaluate", str(run), "--task", "zero-shot", "--json", str(result))
    assert measured.returncode == 0, measured.stderr
    scores = json.loads(result.read_text())["scores"]
    assert scores["top1"] > 0.6, "ten pitches: chance is 0.1"


def test_an_uninstalled_modality_is_unknown(tmp_path: Path, forked_python: Path) -> None:
    failed = mmalign(forked_python, tmp_path, "train", str(TOY / "recipe.yaml"), "--out", str(tmp_path / "run"))
    assert failed.returncode == 2
    assert "no source called 'tones'" in failed.stderr or "no modality called 'tone'" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
