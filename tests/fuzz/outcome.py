"""What came of one case: accepted, refused, or a fault with its kind and place."""

import contextlib
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmalign.errors import BadSample, UserError
from tests.fuzz.case import Case, Nonsense, Target

FAULTS = ("exception", "nonsense", "memory", "hang", "crash", "printed", "quoted")
"""Kinds of faults: another exception than mmalign's own; a useless value accepted; more memory or time than allowed;
the end of the process; words on the terminal; a patient's field in a message."""

MAX_MEMORY = 2 << 30
"""Bytes that one case may use beyond what the process had."""

PATIENT = ("Doe^Jane", "SECRET", "Jane_Doe")
"""Fields of a patient in the seeds; no message may repeat them."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case.

    Args:
        kind: accepted, refused, or one of `FAULTS`.
        where: For a fault, the exception's type and the innermost line of the project; equal faults have equal ones.
        detail: Traceback or message.
    """

    kind: str
    where: str = ""
    detail: str = ""

    @property
    def fault(self) -> bool:
        """Whether something must be mended."""
        return self.kind in FAULTS


def run_case(target: Target, case: Case, printed: Path | None = None) -> Outcome:
    """Run one case in this process.

    Args:
        target: What reads it.
        case: The input.
        printed: File that receives this process's standard output and error, if they are redirected.
    """
    start = printed.stat().st_size if printed else 0
    reset_peak()
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory(prefix="fuzz") as name, _inside(name):
        outcome = _use(target, case, Path(name))
    used = memory("VmHWM") - before
    if used > MAX_MEMORY and outcome.kind != "memory":
        outcome = Outcome("memory", f"{target.name}: {used >> 20} MB", outcome.detail)
    if printed and not outcome.fault and printed.stat().st_size > start:
        words = printed.read_bytes()[start:][:2000].decode(errors="replace")
        return Outcome("printed", f"{target.name}: {re.sub(r'[^a-zA-Z ]+', '', words)[:40]}", words)
    return outcome


def _use(target: Target, case: Case, folder: Path) -> Outcome:
    try:
        target.use(case.changed(as_bytes=case.as_bytes and target.takes_bytes).write(folder))
    except (UserError, BadSample) as error:
        return _refused(error)
    except MemoryError as error:
        return Outcome("memory", place(error), words(error))
    except Nonsense as error:
        return Outcome("nonsense", f"{target.name}: {re.sub(r'[0-9.]+', '0', str(error))[:80]}", words(error))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return Outcome("exception", place(error), words(error))
    return Outcome("accepted")


def _refused(error: Exception) -> Outcome:
    message, chain = str(error), _chain(error)
    if any(isinstance(one, MemoryError) for one in chain):
        return Outcome("memory", place(chain[-1]), words(error))
    if any(word in " ".join(map(str, chain)) for word in PATIENT):
        return Outcome("quoted", place(error), words(error))
    if "\n" in message or not message.isprintable() or len(message) > 20_000:
        return Outcome("nonsense", f"message of {place(error)}", message[:3000])
    return Outcome("refused", detail=message)


def _chain(error: BaseException) -> list[BaseException]:
    """An exception, what caused it, and so on; a cause can be the exception itself."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def place(error: BaseException) -> str:
    """The type of an exception, and the innermost function of the project that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith((f"{ROOT}/mmalign", f"{ROOT}/modalities"))]
    inner = (own or frames or [traceback.FrameSummary("?", 0, "?")])[-1]
    return f"{type(error).__name__} in {inner.filename.removeprefix(f'{ROOT}/')}:{inner.name}"


def words(error: BaseException) -> str:
    """The traceback, its end if it is long."""
    return "".join(traceback.format_exception(error))[-6000:]


def reset_peak() -> None:
    """Count the peak of resident memory from here on (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes; 0 on other systems."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), 0)


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[Any]:
    here = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
