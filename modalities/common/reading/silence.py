"""Silencing of a library during a block, in any thread."""

import logging
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType


class Silence:
    """A re-entrant, thread-safe context manager.

    Logs and warning filters are global to the process: the first block to begin silences them, the last one to end
    restores them.

    Args:
        begin: Silences the library, and registers on the stack the callbacks that restore it.

    Example:
        >>> states = []
        >>> quiet = Silence(lambda undo: (states.append("silent"), undo.callback(states.append, "restored")))
        >>> with quiet:
        ...     with quiet:
        ...         print(states)
        ['silent']
        >>> states
        ['silent', 'restored']
    """

    def __init__(self, begin: Callable[[ExitStack], object]) -> None:
        self._begin, self._undo = begin, ExitStack()
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._begin(self._undo)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


def _ignore_warnings(undo: ExitStack) -> None:
    undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")


quiet_warnings = Silence(_ignore_warnings)
"""Inside `with quiet_warnings:` no warning is shown.

One for all libraries: two that overlap in threads would not restore the filters in the order in which they saved them.
"""


def quiet_library(name: str) -> Silence:
    """A context in which a library logs nothing, and no warning is shown.

    Args:
        name: Name of its logger.
    """

    def begin(undo: ExitStack) -> None:
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
        undo.enter_context(quiet_warnings)

    return Silence(begin)
