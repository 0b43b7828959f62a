"""Silence Pillow and libtiff, which print about damaged files; a bad sample is reported once, by its name."""

import ctypes
import logging
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import PIL

from modalities.common.reading.silence import Silence, quiet_warnings


@cache
def _libtiff() -> Any:
    """The libtiff inside Pillow's wheel; None where Pillow uses another one."""
    folder = Path(PIL.__file__).parent
    for file in [*folder.parent.glob("pillow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")]:
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(file))
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                getattr(library, name).argtypes = [ctypes.c_void_p]
                getattr(library, name).restype = ctypes.c_void_p
            return library
    return None


def _silence(undo: ExitStack) -> None:
    logger = logging.getLogger("PIL")
    undo.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
    undo.enter_context(quiet_warnings)
    if (library := _libtiff()) is not None:
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            undo.callback(getattr(library, name), getattr(library, name)(None))


quiet_pictures = Silence(_silence)
"""Inside `with quiet_pictures:` Pillow and its libtiff print nothing, and no warning is shown."""
