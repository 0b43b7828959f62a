"""Dot products that ignore autocast, in backward too."""

from typing import Any

import torch
from torch import Tensor


def dot_products(x: Tensor, y: Tensor) -> Tensor:
    """`x @ y.mT` in the dtype of its inputs, under autocast too, forward and backward.

    Disabling autocast around a product does not affect its backward if that runs inside autocast.

    Shape:
        `(..., rows, dim)`, `(..., columns, dim)` -> `(..., rows, columns)`; the leading sizes are equal.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     dot_products(torch.eye(2), torch.eye(2)).dtype
        torch.float32
    """
    return _DotProducts.apply(x, y)  # type: ignore[no-any-return]


class _DotProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        with torch.autocast(x.device.type, enabled=False):
            return x @ y.mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            return (
                grad @ y if ctx.needs_input_grad[0] else None,
                grad.mT @ x if ctx.needs_input_grad[1] else None,
            )
