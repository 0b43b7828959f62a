"""A warning where a loss that compares rows is called on the rows of one of several processes."""

import warnings

from mmalign import distributed

_WARNED: set[str] = set()


def warn_own_rows(function: str, objective: str) -> None:
    """Warn, once for each function, that it compares the rows of this process only.

    Without a process group, or with one process, nothing happens.

    Args:
        function: Name in `mmalign.functional`.
        objective: What computes the same over the rows of all processes, for the message.
    """
    if function in _WARNED or not distributed.is_distributed():
        return
    _WARNED.add(function)
    warnings.warn(
        f"functional.{function} compares the rows that it gets, and each of {distributed.world_size()} processes has "
        f"its own: {objective} (in a recipe or by mmalign.train) compares the rows of all processes, with exact "
        "gradients. Ignore this warning if the rows were gathered before.",
        stacklevel=3,
    )
