"""Kills of one operation at chosen and random points, and damaged checkpoints."""

import pickle
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.kill.operations import Operation, equal, prepare, train, trained
from tests.kill.processes import forked


def kill_all(operation: Operation, place: Path, number: int, rng: random.Random) -> tuple["Counter[str]", list[str]]:
    """Kill an operation at several points.

    Args:
        operation: What is killed.
        place: Empty folder.
        number: Number of points.
        rng: Draws the random ones.

    Returns:
        Counts by outcome: equal, or a fault; and a description of each fault.
    """
    reference, log = place / "reference", place / "log"
    reference.mkdir()
    prepare(reference)
    if operation.before is not None:
        _demand(forked(reference, operation.before, log)[0], log)
    fresh = Path(shutil.copytree(reference, place / "fresh"))
    status, operations, seconds = forked(reference, operation.run, log)
    _demand(status, log)
    expected = _result(reference, operation, log)
    counts: Counter[str] = Counter()
    faults = []
    chosen = (number + 1) // 2
    for index in range(number):
        before = 1 + index * operations // chosen if index < chosen else 0
        after = 0.0 if before else rng.uniform(0.0, seconds)
        point = f"{operation.name} before file operation {before} of {operations}" if before else (
            f"{operation.name} after {after:.2f} of {seconds:.2f} s")  # fmt: skip
        folder = Path(shutil.copytree(fresh, place / "killed"))
        status, _, _ = forked(folder, operation.run, log, before=before, seconds=after)
        counts["killed" if status == -signal.SIGKILL else "ended before"] += 1
        if status not in (0, -signal.SIGKILL):
            faults.append(f"{point}: ended with {status}: {log.read_text()[-500:]}")
        elif problem := _gone_on(folder, operation, log, expected):
            faults.append(f"{point}: {problem}")
        else:
            counts["equal"] += 1
        shutil.rmtree(folder)
    shutil.rmtree(fresh)
    return counts, faults


def _gone_on(folder: Path, operation: Operation, log: Path, expected: bytes) -> str:
    if forked(folder, operation.check, log)[0]:
        return f"what the kill left: {log.read_text()[-500:]}"
    if forked(folder, operation.run, log)[0]:
        return f"going on: {log.read_text()[-500:]}"
    differences = equal(pickle.loads(expected), pickle.loads(_result(folder, operation, log)))
    return f"differs in {differences[:5]}" if differences else ""


def _result(folder: Path, operation: Operation, log: Path) -> bytes:
    """The pickled result, computed in a forked process: this one loads no model."""
    file = log.with_suffix(".result")
    _demand(forked(folder, lambda: _write(operation.result, file), log)[0], log)
    return file.read_bytes()


def _write(result: Callable[[], object], file: Path) -> None:
    file.write_bytes(pickle.dumps(result()))


def _demand(status: int, log: Path) -> None:
    if status:
        raise RuntimeError(f"an undisturbed run failed ({status}): {log.read_text()[-3000:]}")


def damage(reference: Path, number: int, rng: random.Random) -> tuple["Counter[str]", list[str]]:
    """Flip a bit of the last checkpoint of a finished run, and resume.

    Args:
        reference: Folder of the finished run.
        number: Number of damaged checkpoints.
        rng: Draws the bits.

    Returns:
        Counts: refused, or equal; and a description of each fault.
    """
    log = reference.parent / "log"
    operation = Operation("damaged", None, train, train, trained)
    expected = pickle.loads(_result(reference, operation, log))
    counts: Counter[str] = Counter()
    faults = []
    for _ in range(number):
        folder = Path(shutil.copytree(reference, reference.parent / "damaged"))
        file = folder / "run/checkpoints/last.ckpt"
        data = bytearray(file.read_bytes())
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        status = forked(folder, train, log)[0]
        words = log.read_text()
        if status and "UserError" in words and "got a damaged or another file" in words:
            counts["refused"] += 1
        elif status:
            faults.append(f"damaged bit {bit}: {words[-500:]}")
        elif differences := equal(expected, pickle.loads(_result(folder, operation, log))):
            faults.append(f"damaged bit {bit}: differs in {differences[:5]}")
        else:
            counts["equal"] += 1
        shutil.rmtree(folder)
    return counts, faults
