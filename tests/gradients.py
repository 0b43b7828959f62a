"""Gradients compared with finite differences: PyTorch's own tolerance passes gradients that are off by 0.1 %."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def gradcheck(function: Callable[..., Any], inputs: Any, **options: Any) -> bool:
    """`torch.autograd.gradcheck` in float64 with a relative tolerance of 1e-5; raises where it is exceeded."""
    return torch.autograd.gradcheck(function, inputs, **({"atol": 1e-7, "rtol": 1e-5} | options))


def gradcheck_of_problems(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    *,
    eps: float = 1e-6,
    atol: float = 1e-7,
    rtol: float = 1e-5,
) -> None:
    """As `gradcheck`, for a function of a batch of independent problems: all differences in one call, for slow solvers.

    Args:
        function: Inputs of any number of problems -> outputs, each with the problems as its first dimension.
        inputs: Of the problems that are checked, as first dimension. `function` gets them with each problem repeated.
        eps: Step of the finite differences.
        atol: Absolute tolerance of a derivative.
        rtol: Relative tolerance of a derivative.

    Raises:
        AssertionError: A derivative of an output by an input of its problem differs.
    """
    sizes = [value[0].numel() for value in inputs]
    flat = torch.cat([value.detach().double().reshape(len(value), -1) for value in inputs], dim=1)
    problems, number = flat.shape

    def outputs(rows: Tensor) -> Tensor:  # (problems, repeats, inputs) -> (problems, repeats, outputs)
        parts = rows.flatten(0, 1).split(sizes, dim=1)
        pairs = zip(parts, inputs, strict=True)
        found = function(*(part.reshape(len(part), *value.shape[1:]) for part, value in pairs))
        return torch.cat([one.reshape(len(one), -1) for one in found], dim=1).unflatten(0, (problems, -1))

    steps = eps * torch.eye(number, dtype=torch.float64)
    above, below = (outputs((flat[:, None] + move).requires_grad_()).detach() for move in (steps, -steps))
    expected = ((above - below) / (2 * eps)).mT  # (problems, outputs, inputs)
    repeated = flat[:, None].repeat(1, expected.shape[1], 1).requires_grad_()
    selected = outputs(repeated).diagonal(dim1=1, dim2=2)  # in repeat k, output k alone
    (slopes,) = torch.autograd.grad(selected.sum(), repeated)
    torch.testing.assert_close(slopes, expected, atol=atol, rtol=rtol)
