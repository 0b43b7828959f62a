"""`python -m tests.mutants`: apply each mutant to a copy of the project and run the tests that must notice it.

A mutant is killed if one of its tests fails. Before, all of these tests must pass on the copy without a mutant. The
exit status is 1 if a mutant survives.

    python -m tests.mutants
    python -m tests.mutants --only clip --only resume --no-baseline
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.forked_python.fixture import PACKAGES, start_server
from tests.mutants.all import MUTANTS
from tests.mutants.mutant import ROOT, Mutant

COPIED = ("mmalign", "modalities", "recipes", "tests", "pyproject.toml")
FAILED, PASSED = 1, 0  # exit statuses of pytest


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="mutants with this text in their name or file")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests without a mutant first")
    arguments = parser.parse_args()
    chosen = [one for one in MUTANTS if not arguments.only or any(t in one.name + one.file for t in arguments.only)]
    with tempfile.TemporaryDirectory(prefix="mutants") as name, start_server(PACKAGES) as python:
        copy = Path(name) / "project"
        for item in COPIED:
            source = ROOT / item
            copied = shutil.copytree if source.is_dir() else shutil.copy2
            copy.mkdir(exist_ok=True)
            copied(source, copy / item)
        for cache in copy.rglob("__pycache__"):
            shutil.rmtree(cache)
        if not arguments.no_baseline:
            tests = sorted({test for one in chosen for test in one.tests})
            if run(python, copy, tests) != PASSED:
                print("the tests fail without a mutant", flush=True)
                return 2
        outcomes = [_outcome(python, copy, one) for one in chosen]
    killed = outcomes.count("killed")
    print(f"{killed} of {len(outcomes)} mutants killed")
    return 0 if killed == len(outcomes) else 1


def _outcome(python: Path, copy: Path, mutant: Mutant) -> str:
    start, kept = time.monotonic(), (copy / mutant.file).read_bytes()
    mutant.apply(copy)
    try:
        status = run(python, copy, mutant.tests)
    finally:
        (copy / mutant.file).write_bytes(kept)
    outcome = {FAILED: "killed", PASSED: "SURVIVED"}.get(status, f"NOT RUN (pytest ended with {status})")
    print(f"{outcome:9} {mutant.name} ({mutant.file}, {time.monotonic() - start:.0f} s)", flush=True)
    return outcome


def run(python: Path, folder: Path, tests: Sequence[str]) -> int:
    """The exit status of pytest in a folder, with the packages of that folder."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(python), "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    if ended.returncode not in (PASSED, FAILED):
        print(ended.stdout[-2000:], ended.stderr[-2000:], flush=True)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
