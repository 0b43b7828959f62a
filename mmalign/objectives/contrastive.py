"""CLIP and SigLIP as objectives: a learnt scale (and bias) around the pure losses, over the rows of every process."""

import math

import torch
from torch import Tensor, nn

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.functional.contrastive import partial_clip_loss, partial_siglip_loss
from mmalign.objectives.functional.matmul import dot_products
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput


class ClipObjective(ScaledObjective):
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

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.clip_loss` in tiles: own rows of `a` against all rows of `b`, columns merged over processes."""
        rows, columns = _float32(a.vector, b.vector, global_batch)
        scale, groups = self.scale, global_batch.groups
        loss = partial_clip_loss(
            rows * scale.to(rows.dtype),
            columns,
            rows=global_batch.own,
            columns=global_batch.own,
            groups_a=groups,
            groups_b=groups,
            merge=distributed.merge_logsumexp,
        )
        return LossOutput(loss, {"scale": scale.detach()[0]})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`; no scale is hidden in it."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of each row of `a` with the row of `b` beside it, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)


class SiglipObjective(ScaledObjective):
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

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.siglip_loss` in tiles: own rows of `a` against all rows of `b`."""
        rows, columns = _float32(a.vector, b.vector, global_batch)
        scale, bias, groups = self.scale, self._bias(global_batch.size), global_batch.groups
        loss = partial_siglip_loss(
            rows * scale.to(rows.dtype),
            columns,
            bias.to(rows.dtype),
            rows=global_batch.own,
            groups_a=groups,
            groups_b=groups,
            count=global_batch.size,
        )
        return LossOutput(loss, {"scale": scale.detach()[0], "bias": bias.detach()[0]})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`; no scale is hidden in it."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of each row of `a` with the row of `b` beside it, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)

    @property
    def bias(self) -> Tensor:
        """What is added to the scaled similarities, `(1,)`; 0 until it is known."""
        return self.initial_bias + self.bias_change

    def _bias(self, batch: int) -> Tensor:
        # No branch on a tensor: that would make every step wait for the device.
        from_batch = torch.full_like(self.initial_bias, -math.log(max(batch - 1, 1)))
        initial = torch.where(self.bias_is_set, self.initial_bias, from_batch)
        if self.training:
            self.initial_bias.copy_(initial)
            self.bias_is_set.fill_(True)
        return initial + self.bias_change


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Dot products of all pairs of unit vectors, in float32 at least, under autocast too."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return dot_products(a.to(dtype), b.to(dtype))


def paired_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of each row of `a` with the row of `b` beside it, in float32 at least."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return (a.to(dtype) * b.to(dtype)).sum(1)


def _float32(a: Tensor, b: Tensor, global_batch: GlobalBatch) -> tuple[Tensor, Tensor]:
    """Own rows of `a` and all rows of `b`, in float32 at least."""
    if a.shape[1:] != b.shape[1:]:
        raise UserError(f"expected vectors of one width of both towers, got {a.shape[1]} and {b.shape[1]}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), global_batch.gather(b.to(dtype))
