"""A bound on the memory of a model that is built from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mmalign.errors import UserError

SPARE = 1 << 24
"""Bytes that a model may have beyond those of its file."""

WIDEST = 4
"""Bytes of a weight in memory per byte in the file: float32 and an 8-bit type."""


@contextmanager
def bounded_parameters(file_bytes: int, where: object) -> Iterator[None]:
    """Inside this context, modules with more parameters than a file can hold are refused while they are built.

    A configuration can state any width: without a bound, its layers would fill the memory before their shapes are
    compared with the weights. PyTorch calls the hook before a layer's parameter is initialised, so that the memory of
    the one that is too large is reserved and not used.

    Args:
        file_bytes: Size of the file of the weights.
        where: The configuration, for the message.

    Raises:
        UserError: the parameters need more than `WIDEST` times the size of the file and `SPARE`.
    """
    total, most = 0, WIDEST * file_bytes + SPARE

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal total
        total += 0 if parameter is None else parameter.numel() * parameter.element_size()
        if total > most:
            raise UserError(f"{where}: expected a model of at most {most} bytes, as its weights have, got a larger one")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
