"""The comparison with finite differences that other tests use finds what is wrong."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.gradients import gradcheck_of_problems


class Slope(torch.autograd.Function):
    """The sum of cubes of each row, with a gradient that is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.factor = factor
        return (rows**3).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return ctx.factor * 3 * rows**2 * gradient[:, None], None


def test_a_gradient_of_independent_problems_is_compared_with_finite_differences() -> None:
    rows, scale = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]]), torch.tensor([1.0, 2.0, 3.0])
    for factor in (1.0, 1.001):

        def function(rows: Tensor, scale: Tensor, factor: float = factor) -> tuple[Tensor, Tensor]:
            return Slope.apply(rows, factor) * scale, scale[:, None] * rows.flip(1)

        if factor == 1.0:
            gradcheck_of_problems(function, [rows, scale])
        else:
            with pytest.raises(AssertionError, match="not close"):
                gradcheck_of_problems(function, [rows, scale])
