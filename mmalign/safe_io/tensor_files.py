"""Files of `torch.save`, read without executing code, and without a word of torch about files that it then refuses."""

import warnings
from os import PathLike
from typing import Any

import torch

NEEDLESS = "Detected pickle protocol"
"""Begins a warning that a file may have instructions that torch does not read; torch raises an error on those."""


def load_tensors(path: str | PathLike[str], *, mmap: bool = False) -> Any:
    """Read tensors and containers from a file of `torch.save`, onto the CPU; code in the file is not run.

    torch warns about many damaged files before it refuses them: the caller's error is the one message about these.
    Warnings about a file that is read reach the user.

    Args:
        path: The file.
        mmap: Map the tensors into memory instead of reading them.

    Raises:
        Exception: of any kind, on damaged or hostile files and on other objects than tensors and containers.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "weights.pt"
        >>> torch.save({"scale": torch.ones(2)}, file)
        >>> load_tensors(file)
        {'scale': tensor([1., 1.])}
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    for one in caught:
        if not str(one.message).startswith(NEEDLESS):
            warnings.warn(one.message, one.category, stacklevel=2)
    return value
