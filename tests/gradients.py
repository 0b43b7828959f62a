"""Gradients compared with finite differences: PyTorch's own tolerance passes gradients that are off by 0.1 %."""

from collections.abc import Callable
from typing import Any

import torch


def gradcheck(function: Callable[..., Any], inputs: Any, **options: Any) -> bool:
    """`torch.autograd.gradcheck` in float64 with a relative tolerance of 1e-5; raises where it is exceeded."""
    return torch.autograd.gradcheck(function, inputs, **({"atol": 1e-7, "rtol": 1e-5} | options))
