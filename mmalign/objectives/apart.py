"""cMIM's contrastive term: the vectors of different samples are pushed apart; no augmented positive is needed."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import cosines, paired_cosines
from mmalign.objectives.functional.computing.matmul import dot_products
from mmalign.objectives.functional.distillation import refuse_not_finite
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput


class ApartObjective(Objective):
    """Pushes the vectors of different samples apart (the contrastive term of cMIM, arXiv 2502.19642).

        loss_i = - log  e^(1/t) / (e^(1/t) + mean over negatives j of e^(a_i . b_j / t))      and a, b exchanged

    The positive is the sample itself, of cosine 1, so nothing is pulled together; the negatives enter as a mean, so the
    loss does not grow with the batch: orthonormal vectors have log(1 + e^(-1/t)), equal ones log 2. Use it beside a
    term that keeps the content, such as `masked`, on a pair of a tower with itself: there a and b are two views. Rows
    of one group are no negatives of each other; a row without negatives adds 0.

    Args:
        temperature: t, divides the dot products.

    Example:
        >>> orthonormal, equal = Embedding(torch.eye(8)), Embedding(torch.eye(8)[:1].expand(8, 8))
        >>> ApartObjective(0.5)(orthonormal, orthonormal).loss  # log(1 + exp(-2))
        tensor(0.1269)
        >>> ApartObjective(0.5)(equal, equal).loss
        tensor(0.6931)
    """

    two_views = False  # it compares different samples

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise UserError(f"apart: temperature: expected a number above 0, got {temperature}")
        self.temperature = temperature

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The mean of both directions for each own row.

        Terms:
            negative_cosine: Mean cosine with the negatives.
        """
        dtype = torch.promote_types(torch.promote_types(a.vector.dtype, b.vector.dtype), torch.float32)
        first, second = a.vector.to(dtype), b.vector.to(dtype)
        refuse_not_finite("apart", first, second)
        negatives = ~global_batch.positives
        tables = [dot_products(first, global_batch.gather(second)), dot_products(second, global_batch.gather(first))]
        losses = [self._rows(table, negatives) for table in tables]
        counts = negatives.sum(1).clamp(min=1)
        cosine = (tables[0].detach() * negatives).sum(1) / counts
        return LossOutput((losses[0] + losses[1]) / 2, {"negative_cosine": cosine})

    def _rows(self, table: Tensor, negatives: Tensor) -> Tensor:
        counts = negatives.sum(1)
        logits = (table / self.temperature).masked_fill(~negatives, -1e30)  # finite: of no negatives the graph stays
        mean = logits.logsumexp(1) - counts.clamp(min=1).to(table.dtype).log()
        return torch.where(counts > 0, F.softplus(mean - 1 / self.temperature), 0.0 * mean)

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`."""
        return cosines(a.vector, b.vector)

    def similarity_pairwise(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of row i of `a` with row i of `b`, `(len(a),)`."""
        return paired_cosines(a.vector, b.vector)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"
