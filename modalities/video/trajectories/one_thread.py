"""OpenCV on one thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmalign.registry import missing_extra


@contextmanager
def one_thread() -> Iterator[Any]:
    """OpenCV with one thread: other processes use the other cores, and results do not depend on their number.

    Raises:
        UserError: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("opencv-python-headless", "video") from error
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield cv2
    finally:
        cv2.setNumThreads(threads)
