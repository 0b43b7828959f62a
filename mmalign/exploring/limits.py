"""Limits of the explorer: characters, files, bytes and seconds; one piece of work at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mmalign.errors import UserError

T = TypeVar("T")

MEGABYTE = 10**6


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Args:
        upload_mb: Megabytes of one dropped file, and of all files of one query.
        seconds: Time of one request; its work is abandoned then.
        characters: Length of a typed query.
        files: Number of files of one query, such as the header and the signals of a WFDB record.

    Raises:
        UserError: a limit is not positive.
    """

    upload_mb: float = 32.0
    seconds: float = 60.0
    characters: int = 20_000
    files: int = 8

    def __post_init__(self) -> None:
        for name in ("upload_mb", "seconds", "characters", "files"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: expected more than 0, got {getattr(self, name)}")

    @property
    def upload_bytes(self) -> int:
        """The limit of dropped files in bytes."""
        return int(self.upload_mb * MEGABYTE)


class Worker:
    """Runs one piece of work at a time, in a thread of its own, and stops waiting for it at the time limit.

    A thread cannot be ended: work beyond the limit ends by itself, and requests until then are refused as busy.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """The result of some work.

        Raises:
            UserError: the time limit is over, or other work lasts longer than it.
        """
        until = time.monotonic() + self.seconds
        if not self._lock.acquire(timeout=self.seconds):
            raise UserError(f"busy with an earlier request for more than {self.seconds:g} s; try again")
        job = _Job(work, self._lock)
        job.start()
        job.join(max(0.0, until - time.monotonic()))
        if job.is_alive():
            raise UserError(f"no answer within {self.seconds:g} s; ask with a smaller sample, or raise --seconds")
        return job.result()


class _Job(threading.Thread, Generic[T]):
    def __init__(self, work: Callable[[], T], lock: threading.Lock) -> None:
        super().__init__(daemon=True, name="mmalign-explore")
        self._work, self._busy = work, lock
        self._outcome: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:  # raised again in the thread that waits
            self._error = error
        finally:
            self._busy.release()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._outcome[0]
