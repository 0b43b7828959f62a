"""Forked processes that end themselves before a chosen file operation, or are killed after some processor time."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "sqlite3.connect")


def forked(
    folder: Path, work: Callable[[], None], log: Path, *, before: int = 0, seconds: float = 0.0
) -> tuple[int, int, float]:
    """Run work in a forked process with this working folder.

    Args:
        folder: The working folder.
        work: What is run.
        log: Receives the output of the process.
        before: Number of the file operation before which the process kills itself; 0 = none.
        seconds: Processor time after which it is killed; 0 = never.

    Returns:
        Exit status, negative for a signal; number of file operations, 0 if the process was killed; processor time.
    """
    count = log.with_suffix(".count")
    count.unlink(missing_ok=True)
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _child(folder, work, log, before, count)
    used = 0.0
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if seconds and _processor_time(process) >= seconds:
            os.kill(process, signal.SIGKILL)
            _, status, usage = os.wait4(process, 0)
            break
        time.sleep(0.002)
    used = usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), int(count.read_text()) if count.exists() else 0, used


def _child(folder: Path, work: Callable[[], None], log: Path, before: int, count: Path) -> None:
    status = 1
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.chdir(folder)
        number, watching = 0, True

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal number
            if watching and (event in WRITES or (event == "open" and _writes(arguments))):
                number += 1
                if number == before:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()
        watching = False
        count.write_text(str(number))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & os.O_ACCMODE)
    return writes and not str(path).startswith(("/dev", "/proc", "/sys"))


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
