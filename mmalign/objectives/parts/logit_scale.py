"""Logit scale: a learnt factor of the similarities, with an optional upper bound."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.objectives.objective import Objective


class ScaledObjective(Objective):
    """An objective with a learnt scale, stored as its logarithm.

    Args:
        initial_scale: Initial factor of the similarities.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound.
        learn_scale: Whether the scale is trained.
    """

    def __init__(self, initial_scale: float, max_scale: float | None, learn_scale: bool = True) -> None:
        super().__init__()
        if not 0 < initial_scale < math.inf:
            raise UserError(f"initial_scale must be above 0 and finite, got {initial_scale}")
        if max_scale is not None and max_scale < initial_scale:
            raise UserError(f"max_scale ({max_scale:g}) is below initial_scale ({initial_scale:g})")
        self.max_scale = max_scale
        # One element rather than a scalar: FSDP shards no scalars.
        self.log_scale = nn.Parameter(torch.tensor([math.log(initial_scale)]), requires_grad=learn_scale)
        self.register_load_state_dict_post_hook(_check_scale)  # type: ignore[no-untyped-call]

    @property
    def scale(self) -> Tensor:
        """Factor of the similarities, `(1,)`."""
        return self.log_scale.exp()

    @torch.no_grad()
    def set_logits(self, scale: float, bias: float | None = None) -> None:
        """Start from the scale of a pretrained model; its bias has no effect on a softmax, and is ignored here."""
        self.log_scale.fill_(math.log(scale))
        _check_scale(self, None)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the scale at or below its upper bound."""
        if self.max_scale is not None:
            self.log_scale.clamp_(max=math.log(self.max_scale))

    def extra_repr(self) -> str:
        return f"max_scale={self.max_scale}"


def _check_scale(module: nn.Module, incompatible: Any) -> None:
    assert isinstance(module, ScaledObjective)
    scale = float(module.scale.detach())
    if not 0 < scale < math.inf:
        raise UserError(f"expected a learnt scale above 0 and finite in the loaded weights, got {scale:g}")
    if module.max_scale is not None and scale > module.max_scale * (1 + 1e-5):
        warnings.warn(
            f"the loaded scale is {scale:.4g}, above max_scale {module.max_scale:g}: the first training "
            "step will lower it; set the objective's max_scale to null, or higher, to keep it",
            stacklevel=2,
        )
