"""Atomic replacement of files, and locks of folders that one process at a time may write."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mmalign.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


ABANDONED_SECONDS = 600.0
"""Age of a partial file from which its writer, if it does not run here, does not run on another machine either."""

_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<process>[1-9]\d{0,8})\.partial(?P<suffix>(?:\.[^.]+)?)")

_tidied: set[Path] = set()


@contextmanager
def replaced(path: Path | str) -> Iterator[Path]:
    """A temporary path beside a file; when the block ends without an error, it replaces the file.

    What is written is flushed to the disk before the rename, so that a kill or a full disk leaves the former file. The
    first file that a process replaces in a folder removes what killed ones left there.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replaced(file) as partial:
        ...     _ = partial.write_text("whole")
        >>> file.read_text(), [one.name for one in file.parent.iterdir()]
        ('whole', ['a.txt'])
    """
    path = Path(path)
    _remove_abandoned(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove the partial files of `replaced` whose process has ended, once in each folder."""
    if os.name == "nt" or folder in _tidied:  # there, asking for a process ends it
        return
    _tidied.add(folder)
    with suppress(OSError):
        for file in list(os.scandir(folder)):
            match = _PARTIAL.fullmatch(file.name)
            if match and match["name"].endswith(match["suffix"]) and file.is_file(follow_symlinks=False):
                age = time.time() - file.stat(follow_symlinks=False).st_mtime
                if age > ABANDONED_SECONDS and not _runs(int(match["process"])):
                    with suppress(OSError):
                        os.unlink(file.path)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


@contextmanager
def locked(path: Path, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock file; the lock ends with the process, however it ends.

    Args:
        path: The lock file, created if missing. It keeps the number of the last process that held it.
        what: What is locked, for the message.
        wait: Seconds to wait for another process.

    Raises:
        UserError: another process holds the lock; the message has its number.
    """
    if fcntl is None:
        yield
        return
    with path.open("a+", encoding="utf-8") as file:
        end = time.monotonic() + wait
        while not _taken(file):
            if time.monotonic() > end:
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                raise UserError(f"{what} is in use by another process (number {holder}); wait for it, or stop it")
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
