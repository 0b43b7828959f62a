"""CLIP and SigLIP as objectives: the losses with a learnt scale (and bias), over the rows of all processes."""

import math

import torch
from torch import Tensor, nn

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.functional.computing.matmul import dot_products
from mmalign.objectives.functional.contrastive import partial_clip_loss, partial_siglip_loss
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.types import Embedding, LossOutput


class ClipObjective(ScaledObjective):
    """Symmetric contrastive loss over all pairs of the global batch (CLIP, arXiv 2103.00020).

    Args:
        initial_scale: Initial factor of the cosines; 1/0.07 as in the paper.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound.
        learn_scale: Whether the scale is trained.

    Example:
        >>> objective = ClipObjective()
        >>> embedding = Embedding(torch.eye(4))
        >>> float(objective(embedding, embedding).terms["scale"])
        14.28...
    """

    guided = True
    many = True

    def __init__(
        self, initial_scale: float = 1 / 0.07, max_scale: float | None = 100.0, learn_scale: bool = True
    ) -> None:
        super().__init__(initial_scale, max_scale, learn_scale)

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.clip_loss` in tiles: own rows of `a` against all rows of `b`, columns merged over processes."""
        rows, columns = rows_and_columns(a.vector, b.vector, global_batch)
        scale = self.scale
        loss = partial_clip_loss(
            rows * scale.to(rows.dtype),
            columns,
            rows=global_batch.own,
            columns=global_batch.own_items,
            groups_a=global_batch.groups,
            groups_b=global_batch.item_groups,
            merge=distributed.merge_logsumexp,
            drop=global_batch.false_negatives,
        )
        return LossOutput(loss, {"scale": scale.detach()[0]} | _masked(global_batch))

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`, without the scale."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of row i of `a` with row i of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)


class SiglipObjective(ScaledObjective):
    """Binary classification (match or no match) of every pair of the global batch (SigLIP, arXiv 2303.15343).

    Args:
        initial_scale: Initial factor of the cosines; 10 as in the paper.
        initial_bias: Initial bias. Null = `-log(batch - 1)` of the first global training batch: the log-odds of one
            positive per row, so that untrained vectors predict the right rate of positives. The paper's -10
            corresponds to a batch of 22,000.
        max_scale: Upper bound of the scale, enforced after every step; null = no bound, as in the paper.

    Example:
        >>> objective = SiglipObjective()
        >>> embedding = Embedding(torch.eye(4))
        >>> float(objective(embedding, embedding).terms["bias"])  # -log 3
        -1.09...
    """

    guided = True
    many = True
    initial_bias: Tensor
    bias_is_set: Tensor

    def __init__(
        self, initial_scale: float = 10.0, initial_bias: float | None = None, max_scale: float | None = None
    ) -> None:
        super().__init__(initial_scale, max_scale, learn_scale=True)
        # The initial value is a buffer, and the parameter is added to it: a value set in a forward pass must be equal
        # on all processes, and weight averaging must not include steps from before it was set.
        self.register_buffer("initial_bias", torch.tensor([0.0 if initial_bias is None else initial_bias]))
        self.register_buffer("bias_is_set", torch.tensor(initial_bias is not None))
        self.bias_change = nn.Parameter(torch.zeros(1))

    @torch.no_grad()
    def set_logits(self, scale: float, bias: float | None = None) -> None:
        """Start from the scale and bias of a pretrained model; without a bias, from that of the first batch."""
        super().set_logits(scale)
        if bias is not None:
            self.initial_bias.fill_(bias)
            self.bias_is_set.fill_(True)

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.siglip_loss` in tiles: own rows of `a` against all rows of `b`."""
        rows, columns = rows_and_columns(a.vector, b.vector, global_batch)
        scale, bias = self.scale, self._bias(global_batch.size)
        loss = partial_siglip_loss(
            rows * scale.to(rows.dtype),
            columns,
            bias.to(rows.dtype),
            rows=global_batch.own,
            groups_a=global_batch.groups,
            groups_b=global_batch.item_groups,
            count=global_batch.size,
            drop=global_batch.false_negatives,
        )
        return LossOutput(loss, {"scale": scale.detach()[0], "bias": bias.detach()[0]} | _masked(global_batch))

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`, without the scale."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of row i of `a` with row i of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)

    @property
    def bias(self) -> Tensor:
        """Bias of the logits, `(1,)`; 0 before the first training batch."""
        return self.initial_bias + self.bias_change

    def _bias(self, batch: int) -> Tensor:
        # No branch on a tensor: it would synchronise with the device at every step.
        from_batch = torch.full_like(self.initial_bias, -math.log(max(batch - 1, 1)))
        initial = torch.where(self.bias_is_set, self.initial_bias, from_batch)
        if self.training:
            self.initial_bias.copy_(initial)
            self.bias_is_set.fill_(True)
        return initial + self.bias_change


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Dot products of all pairs of unit vectors, in float32 or higher precision, under autocast too."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return dot_products(a.to(dtype), b.to(dtype))


def paired_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of row i of `a` with row i of `b`, in float32 or higher precision."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return (a.to(dtype) * b.to(dtype)).sum(1)


def rows_and_columns(a: Tensor, b: Tensor, global_batch: GlobalBatch) -> tuple[Tensor, Tensor]:
    """Own rows of `a` and all rows of `b`, in float32 or higher precision."""
    if a.shape[1:] != b.shape[1:]:
        raise UserError(f"expected vectors of one width of both towers, got {a.shape[1]} and {b.shape[1]}")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), global_batch.gather_items(b.to(dtype))


def _masked(global_batch: GlobalBatch) -> dict[str, Tensor]:
    """The fraction of each own row's columns that the guide left out, to log; empty without a guide."""
    found = global_batch.false_negatives
    return {} if found is None else {"masked": found.fractions}
