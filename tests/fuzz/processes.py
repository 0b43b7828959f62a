"""Batches of cases in forked processes, with limits on time and memory for each case."""

import json
import logging
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.fuzz.case import Case, Target
from tests.fuzz.outcome import Outcome, memory, run_case

MAX_SECONDS = 20.0
"""Processor time of one case."""

MAX_WAIT = 30.0
"""Seconds that a process may sleep without computing, such as before a pipe that nobody writes to."""

SPARE_MEMORY = 3 << 30
"""Bytes that a process may allocate beyond what it had: more is a `MemoryError` in it, not the end of the machine."""

Work = Sequence[tuple[Target, Callable[[], Case]]]


def run_batch(work: Work) -> Iterator[Outcome]:
    """Run cases, one forked process for as many as it survives.

    Args:
        work: What reads a case, and what makes it; made in the forked process.

    Yields:
        One outcome per case, in order.
    """
    index = 0
    while index < len(work):
        with tempfile.NamedTemporaryFile(prefix="fuzz") as printed:
            for outcome in _one_process(work[index:], Path(printed.name)):
                index += 1
                yield outcome


def _one_process(work: Work, printed: Path) -> Iterator[Outcome]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _child(work, writer, printed)
    os.close(writer)
    ended, done = "", 0
    with os.fdopen(reader, "rb") as pipe:
        for _ in work:
            line = _wait(pipe.fileno(), process)
            if line is None:
                ended = "hang"
            elif not line:
                ended = "crash"
            else:
                done += 1
                yield Outcome(*json.loads(line))
                continue
            break
    if ended == "hang":
        os.kill(process, signal.SIGUSR1)  # writes the stack
        time.sleep(0.3)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if ended:
        code = os.waitstatus_to_exitcode(status)
        stack = printed.read_bytes()[-40_000:].decode(errors="replace").split("\nExtension modules:")[0][-4000:]
        lines = [line.strip() for line in stack.splitlines() if "/mmalign/" in line or "/modalities/" in line]
        where = lines[0].rpartition("/")[2] if lines else work[done][0].name
        yield Outcome(ended, f"{ended} ({code}) in {where}", stack)


def _wait(descriptor: int, process: int) -> bytes | None:
    """The next line; empty at the end of the process, None if it takes too long."""
    last, (computed, _), line = time.monotonic(), _processor_time(process), bytearray()
    latest = computed
    while True:
        if select.select([descriptor], [], [], 0.5)[0]:
            byte = os.read(descriptor, 1)
            if not byte:
                return b""
            if byte == b"\n":
                return bytes(line)
            line += byte
            continue
        used, sleeping = _processor_time(process)
        if used > latest or not sleeping:  # a busy machine may not let it compute for a while
            last, latest = time.monotonic(), used
        if used - computed > MAX_SECONDS or time.monotonic() - last > MAX_WAIT:
            return None


def _processor_time(process: int) -> tuple[float, bool]:
    """Seconds of processor time, and whether the process sleeps."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, True
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0] == "S"


def _child(work: Work, writer: int, printed: Path) -> None:
    """Run the cases in this process, and end it."""
    import faulthandler

    status = 1
    try:
        target_file = os.open(printed, os.O_WRONLY | os.O_APPEND)
        os.dup2(target_file, 1)
        os.dup2(target_file, 2)
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1)
        _quiet_logs()
        warnings.simplefilter("always")  # a warning on the terminal is a fault at any time, not at the first only
        warnings.filterwarnings("ignore", message="the loaded scale is")  # mmalign's own
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = memory("VmData") + SPARE_MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        for target, make in work:
            outcome = run_case(target, make(), printed)
            line = json.dumps([outcome.kind, outcome.where, outcome.detail]).encode() + b"\n"
            while line:
                line = line[os.write(writer, line) :]
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


class _Other(logging.Handler):
    """Prints what libraries log; mmalign's own warnings are part of its answers."""

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("mmalign", "modalities")) and record.levelno >= logging.WARNING:
            print(f"log of {record.name}: {record.getMessage()}", file=sys.stderr, flush=True)


def _quiet_logs() -> None:
    logging.getLogger().handlers = [_Other()]
