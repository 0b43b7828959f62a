"""Precision of float32 matrix products during training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mmalign.errors import UserError

PRECISIONS = ("highest", "high", "medium")


def check_precision(name: str) -> None:
    """Check `--matmul_precision`.

    Raises:
        UserError: it is none of auto, highest, high and medium.
    """
    if name not in ("auto", *PRECISIONS):
        raise UserError(f"--matmul_precision: expected one of auto, {', '.join(PRECISIONS)}, got {name!r}")


@contextmanager
def matmul_precision(name: str, device: torch.device) -> Iterator[None]:
    """Products of a precision, as `torch.set_float32_matmul_precision` defines it; afterwards the one before.

    Args:
        name: highest, high or medium; auto = high (TF32) on a CUDA device, and unchanged elsewhere.
        device: Device of the model.

    Example:
        >>> with matmul_precision("medium", torch.device("cpu")):
        ...     torch.get_float32_matmul_precision()
        'medium'
    """
    before = torch.get_float32_matmul_precision()
    if name == "auto":
        name = "high" if device.type == "cuda" else before
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
