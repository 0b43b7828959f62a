"""The fuzzer finds what it is for, every registered reader has seeds, and a short seeded campaign has no fault."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmalign import registry
from mmalign.errors import BadSample
from tests.fuzz.case import Case, Nonsense, Target
from tests.fuzz.mutate import mutate
from tests.fuzz.targets.registered import missing_seeds

ROOT = Path(__file__).resolve().parents[2]

FAULTY = """
import ctypes, logging, sys, time
import numpy as np
from mmalign.errors import BadSample
from tests.fuzz import outcome, processes
from tests.fuzz.case import Case, Nonsense, Target

processes.MAX_SECONDS, processes.MAX_WAIT, outcome.MAX_MEMORY = 1.0, 3.0, 1 << 26

def hang():
    while True: pass

def refuse(words, cause=None):
    raise BadSample("file", "a picture", words) from cause

def nonsense(): raise Nonsense("NaN in it")
def segfault(): ctypes.string_at(0)
def large(): np.ones(1 << 24)
def log(): logging.getLogger("library").warning("a word")
def hidden():
    try: np.empty(1 << 40)
    except MemoryError as error: refuse("too large", error)

FAULTS = {
    "accepted": lambda: None, "refused": lambda: refuse("a text"), "exception": lambda: {}["key"], "nonsense": nonsense,
    "hang": hang, "crash": segfault, "memory": large, "printed": log, "quoted": lambda: refuse("Doe^Jane"),
}
MORE = [("hang", lambda: time.sleep(60)), ("memory", hidden), ("exception", sys.exit), ("printed", lambda: print("x"))]
cases = [*FAULTS.items(), *MORE, ("accepted", lambda: None)]
work = [(Target(kind, {}, lambda _, fault=fault: fault()), Case) for kind, fault in cases]
for (kind, _), seen in zip(cases, processes.run_batch(work), strict=True):
    print(kind, seen.kind)
"""


def test_every_registered_reader_source_and_table_has_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_seeds() == []
    registry.register("modalities", "unseeded", registry.load("modalities", "vector"))
    try:
        assert missing_seeds() == ["reader unseeded"], "a new modality needs tests/fuzz/seeds/NAME.py"
    finally:
        registry.unregister("modalities", "unseeded")


def run(python: Path | str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(python), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, **options
    )


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="limits of memory are those of Linux")
def test_each_kind_of_fault_is_seen(forked_python: Path) -> None:
    """Other exceptions, useless values, endless loops, waiting, crashes, memory, printing, a patient's name."""
    ended = run(forked_python, "-c", FAULTY)
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert len(lines) == 14, ended.stderr
    assert [line for line in lines if line[0] != line[1]] == []


def test_mutations_follow_the_seed_and_change_the_input() -> None:
    seeds = [Case({"a.json": b'{"rate": 250, "leads": ["I", "II"]}', "a.npy": bytes(range(200))}, "a.npy")]
    first, second = (
        [mutate(random.Random(number), seeds[0], seeds, [b"other"]) for number in range(300)] for _ in range(2)
    )
    assert first == second
    assert sum(case == seeds[0] for case in first) < 15
    assert len({repr(case) for case in first}) > 240
    assert {kind for case in first for kind in case.links.values()} == {"pipe", "folder", "link"}
    values = [mutate(random.Random(number), Case(value={"a": np.ones(3)}), []) for number in range(100)]
    arrays = [case.value["a"] for case in values if isinstance(case.value, dict) and "a" in case.value]
    assert any(isinstance(one, np.ndarray) and one.dtype.kind == "f" and np.isnan(one).any() for one in arrays)


def test_an_unseeded_modality_is_fuzzed_by_being_registered(tmp_path: Path) -> None:
    from tests.fuzz.targets.readers import reader_target

    registry.register("modalities", "unseeded", registry.load("modalities", "vector"))
    try:
        target = reader_target("unseeded", tmp_path)
    finally:
        registry.unregister("modalities", "unseeded")
    assert target.seeds
    for case in target.seeds.values():
        target.use(case.value)
    with pytest.raises(BadSample):
        target.use(np.array([np.nan]))


def test_a_reader_that_accepts_nonsense_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz.targets.readers import reader_target

    target: Target = reader_target("vector", tmp_path)
    monkeypatch.setattr(type(registry.load("modalities", "vector")), "read", lambda self, source: np.asarray(source))
    bad: list[Callable[[], Any]] = [
        lambda: np.full(16, np.nan, np.float32),
        lambda: np.zeros(16),
        lambda: np.zeros((0,), np.float32),
    ]
    for make in bad:
        with pytest.raises(Nonsense):
            target.use(make())
    target.use(np.zeros(16, np.float32))


@pytest.mark.timeout(240)
def test_a_short_campaign_has_no_fault(forked_python: Path, tmp_path: Path) -> None:
    """Every target with a few cases; the seeds themselves come first and are accepted."""
    python = forked_python if hasattr(os, "pidfd_open") else sys.executable
    flags = ["--cases", "250", "--out", str(tmp_path / "faults"), "--json", str(tmp_path / "counts.json")]
    ended = run(python, "-m", "tests.fuzz", *flags)
    assert (tmp_path / "counts.json").is_file(), ended.stderr[-3000:]
    result = json.loads((tmp_path / "counts.json").read_text())
    assert result["faults"] == [], ended.stdout[-3000:]
    assert ended.returncode == 0
    assert result["missing"] == []
    unread = [name for name, counts in result["counts"].items() if not counts.get("accepted")]
    assert unread == [], "seeds that are refused find nothing"
