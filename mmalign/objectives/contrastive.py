"""CLIP and SigLIP as objectives: a learnt scale (and bias) around the pure losses, over the rows of every process."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.base import Objective
from mmalign.objectives.functional.contrastive import clip_share, siglip_share
from mmalign.types import Embedding, LossOutput


class _Contrastive(Objective):
    # One step of inheritance: what CLIP and SigLIP share is a learnt log scale with an optional cap, and the score.
    def __init__(self, initial_scale: float, max_scale: float | None, learn_scale: bool) -> None:
        super().__init__()
        if not initial_scale > 0:
            raise UserError(f"initial_scale must be above 0, got {initial_scale}")
        if max_scale is not None and max_scale < initial_scale:
            raise UserError(f"max_scale ({max_scale:g}) is below initial_scale ({initial_scale:g})")
        self.max_scale = max_scale
        # One element rather than a scalar: FSDP shards no scalars.
        self.log_scale = nn.Parameter(torch.tensor([math.log(initial_scale)]), requires_grad=learn_scale)
        self.register_load_state_dict_post_hook(_warn_above_cap)  # type: ignore[no-untyped-call]

    @property
    def scale(self) -> Tensor:
        """What multiplies the cosines, `(1,)`."""
        return self.log_scale.exp()

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the scale at or below its cap."""
        if self.max_scale is not None:
            self.log_scale.clamp_(max=math.log(self.max_scale))

    def score(self, a: Embedding, b: Embedding) -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`; no scale is hidden in it."""
        return a.vector @ b.vector.T

    def extra_repr(self) -> str:
        return f"max_scale={self.max_scale}"


class ClipObjective(_Contrastive):
    """Contrastive loss over all pairs of the batch of every process, both ways (CLIP, arXiv 2103.00020).

    Args:
        initial_scale: What multiplies the cosines at first; 1/0.07 as in the paper.
        max_scale: The scale is put back to this after a step; null leaves it free.
        learn_scale: Whether the scale is trained.

    Example:
        >>> objective = ClipObjective()
        >>> side = Embedding(torch.eye(4))
        >>> float(objective(side, side).terms["scale"])
        14.28...
    """

    def __init__(
        self, initial_scale: float = 1 / 0.07, max_scale: float | None = 100.0, learn_scale: bool = True
    ) -> None:
        super().__init__(initial_scale, max_scale, learn_scale)

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """`functional.clip_loss` of the whole batch, as this process's share of it.

        The mean over processes of the returned losses is the whole batch's loss, and the mean of the gradients, which
        is what DDP takes, is its gradient.
        """
        rows, columns, groups, own, counts = _gather(a.vector, b.vector, groups)
        scale = self.scale
        loss = clip_share(
            rows * scale.to(rows.dtype),
            columns,
            rows=own,
            columns=own,
            groups_a=groups,
            groups_b=groups,
            merge=distributed.merge_logsumexp,
        )
        return LossOutput(loss * len(counts), {"scale": scale.detach()[0]})


class SiglipObjective(_Contrastive):
    """A yes-or-no question for every pair of the batch of every process (SigLIP, arXiv 2303.15343).

    Args:
        initial_scale: What multiplies the cosines at first; 10 as in the paper.
        initial_bias: What is added to them at first. Null takes it from the first training batch, over all processes:
            `-log(batch - 1)`, at which vectors that know nothing have the right rate of positives (one a row). The
            paper's -10 is that of a batch of 22,000, and far off for small ones.
        max_scale: The scale is put back to this after a step; null leaves it free, as in the paper.

    Example:
        >>> objective = SiglipObjective()
        >>> side = Embedding(torch.eye(4))
        >>> float(objective(side, side).terms["bias"])  # -log 3
        -1.09...
    """

    initial_bias: Tensor
    bias_is_set: Tensor

    def __init__(
        self, initial_scale: float = 10.0, initial_bias: float | None = None, max_scale: float | None = None
    ) -> None:
        super().__init__(initial_scale, max_scale, learn_scale=True)
        # The start is a buffer and training adds to it: what is found out in a forward pass must reach every process
        # whole, and an average of weights over time must not count steps from before it was known.
        self.register_buffer("initial_bias", torch.tensor([0.0 if initial_bias is None else initial_bias]))
        self.register_buffer("bias_is_set", torch.tensor(initial_bias is not None))
        self.bias_change = nn.Parameter(torch.zeros(1))

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """`functional.siglip_loss` of the whole batch, as this process's share of it (see `ClipObjective.forward`)."""
        rows, columns, groups, own, counts = _gather(a.vector, b.vector, groups)
        scale, bias = self.scale, self._bias(sum(counts))
        loss = siglip_share(
            rows * scale.to(rows.dtype),
            columns,
            bias.to(rows.dtype),
            rows=own,
            groups_a=groups,
            groups_b=groups,
            count=sum(counts),
        )
        return LossOutput(loss * len(counts), {"scale": scale.detach()[0], "bias": bias.detach()[0]})

    def _bias(self, batch: int) -> Tensor:
        # No branch on a tensor: that would make every step wait for the device.
        from_batch = torch.full_like(self.initial_bias, -math.log(max(batch - 1, 1)))
        initial = torch.where(self.bias_is_set, self.initial_bias, from_batch)
        if self.training:
            self.initial_bias.copy_(initial)
            self.bias_is_set.fill_(True)
        return initial + self.bias_change


def _gather(a: Tensor, b: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None, slice, list[int]]:
    """Own rows, all columns, all groups, where the own rows stand, and how many each process has."""
    if a.shape != b.shape or (groups is not None and len(groups) != len(a)):
        given = "" if groups is None else f" and {len(groups)} groups"
        raise UserError(f"sides of a pair must have as many rows: got {tuple(a.shape)} and {tuple(b.shape)}{given}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    counts = distributed.row_counts(len(a), a.device)
    columns = distributed.gather_rows(b.to(dtype), counts)
    groups = None if groups is None else distributed.gather_rows(groups, counts)
    return a.to(dtype), columns, groups, distributed.own_rows(counts), counts


def _warn_above_cap(module: nn.Module, incompatible: Any) -> None:
    assert isinstance(module, _Contrastive)
    scale = float(module.scale.detach())
    if module.max_scale is not None and scale > module.max_scale * (1 + 1e-5):
        warnings.warn(
            f"the loaded scale is {scale:.4g}, above max_scale {module.max_scale:g}: the first training "
            "step will lower it; set the objective's max_scale to null, or higher, to keep it",
            stacklevel=2,
        )
