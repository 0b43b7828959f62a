"""rdkit without its messages, for as long as a piece of code runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rdkit import rdBase

_lock = threading.Lock()
_inside = 0
_block: rdBase.BlockLogs | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Hold rdkit's log back inside the block; what was switched on before is on again afterwards.

    rdkit has one log a process: of blocks that overlap in time, in several threads, the last one to end switches it on.

    Example:
        >>> from rdkit import Chem
        >>> with quiet():
        ...     Chem.MolFromSmiles("C1CC")
    """
    global _inside, _block
    with _lock:
        if _inside == 0:
            _block = rdBase.BlockLogs()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _block = None
