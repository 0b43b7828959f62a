"""A few kills of save, embed, evaluate and a cache; training is killed in tests/training/checkpoints/test_resume.py."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's /proc")

CARELESS = """
import random, sys
from pathlib import Path
from tests.kill.operations import Operation
from tests.kill.points import kill_all

def write():
    for name in ("a", "b"):
        with open(name, "w") as file:
            file.write("new")

def whole():
    assert {Path(name).read_text() for name in ("a", "b")} in ({"old"}, {"new"})

def append():
    with open("c", "a") as file:
        file.write("x")

def before():
    for name in ("a", "b"):
        Path(name).write_text("old")

def read(name):
    return lambda: Path(name).read_text()

work = Path(sys.argv[1])
for name, run, check, result in (("torn", write, whole, read("a")), ("twice", append, lambda: None, read("c"))):
    (work / name).mkdir()
    counts, faults = kill_all(Operation(name, before, run, check, result), work / name, 6, random.Random(0))
    print(name, counts["equal"], *(("what the kill left" in fault, "differs" in fault) for fault in faults))
"""


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(python), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_kill_between_two_files_is_seen(forked_python: Path, tmp_path: Path) -> None:
    """A file is emptied when it is opened for writing: the second kill leaves one new file and one old one."""
    ended = run(forked_python, "-c", CARELESS, str(tmp_path))
    lines = ended.stdout.splitlines()
    assert len(lines) == 2, ended.stderr
    assert "(True, False)" in lines[0], lines
    assert "(False, True)" in lines[1], lines


def test_kills_leave_the_former_or_the_new_state(forked_python: Path, tmp_path: Path) -> None:
    flags = [flag for name in ("save", "embed", "evaluate", "cache") for flag in ("--only", name)]
    ended = run(forked_python, "-m", "tests.kill", "--points", "14", *flags, "--json", str(tmp_path / "counts.json"))
    assert (tmp_path / "counts.json").is_file(), ended.stderr[-3000:]
    report = json.loads((tmp_path / "counts.json").read_text())
    assert report["faults"] == []
    assert sum(counts.get("killed", 0) for counts in report["counts"].values()) >= 4
    assert all(counts["equal"] for counts in report["counts"].values())
