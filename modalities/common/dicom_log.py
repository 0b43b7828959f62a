"""pydicom without its messages: of a damaged file they may quote any field, those of the patient too."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lock = threading.Lock()
_inside = 0
_undo = ExitStack()


@contextmanager
def quiet_dicom() -> Iterator[None]:
    """Hold pydicom's log and all warnings back inside the block; afterwards both are as they were before.

    A process has one log and one list of filters: of blocks that overlap in time, in several threads, the last one to
    end puts them back.

    Example:
        >>> with quiet_dicom():
        ...     logging.getLogger("pydicom").warning("the name of a patient")
        ...     warnings.warn("the name of a patient")
    """
    global _inside
    with _lock:
        if _inside == 0:
            _silence()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()


def _silence() -> None:
    logger = logging.getLogger("pydicom")
    _undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
    _undo.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
