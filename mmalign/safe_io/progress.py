"""Progress bars on the terminal, for work of more than two seconds."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")

DELAY = 2.0
"""Seconds before a bar appears."""


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, with a progress bar on stderr once the work takes more than two seconds.

    Nothing is printed where stderr is not a terminal. The bar appears after an item, so a single one has none.

    Args:
        items: What to iterate over.
        what: What the work does, such as `embedding`.
        total: Number of items; default: the length of `items`, where it has one.

    Example:
        >>> sum(track([1, 2, 3], "adding"))
        6
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # without tqdm's thread, which forked workers would inherit

    length = len(items) if total is None and isinstance(items, Sized) else total
    yield from Bar(items, what, length, leave=False, file=sys.stderr, delay=DELAY, dynamic_ncols=True)
