"""Prototype alignment (MGCA) as an objective."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import cosines
from mmalign.objectives.functional.computing.matmul import dot_products
from mmalign.objectives.functional.prototypes import balanced_codes, prototype_loss
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput


class PrototypeObjective(Objective):
    """Prototype alignment: both samples of a pair are assigned to the same learnt prototypes (MGCA, arXiv 2210.06044).

    `functional.prototype_loss` with the codes of `functional.prototype_codes`, over the rows of all processes: similar
    samples share a prototype even if they are not a pair. Codes are balanced over the prototypes, so use fewer
    prototypes than the global batch has rows, and more than there are classes. Use it as a second term beside a
    contrastive one. `groups` are ignored.

    Args:
        prototypes: Number of prototypes.
        epsilon: Entropic regularisation of the codes: lower = closer to one prototype per sample.
        temperature: Divides the cosines of the softmax.
        still: Fraction of the training, from its start, in which the prototypes do not change while the towers train
            towards them; MGCA: the first epoch.
        dim: Size of the shared space; set by the model.

    Example:
        >>> objective = PrototypeObjective(prototypes=2, dim=2)
        >>> with torch.no_grad():
        ...     _ = objective.prototypes.copy_(torch.eye(2))
        >>> embedding = Embedding(torch.eye(2))
        >>> objective(embedding, embedding).loss  # log(1 + exp(-1 / 0.2))
        tensor(0.0067, grad_fn=<MulBackward0>)
    """

    # Prototypes are renormalised to unit length, so weight decay would only change the gradient's size.
    no_decay = ("prototypes",)

    def __init__(
        self,
        prototypes: int = 64,
        epsilon: float = 0.05,
        temperature: float = 0.2,
        still: float = 0.0,
        dim: int = 256,
    ) -> None:
        super().__init__()
        if not 0 <= still <= 1:
            raise UserError(f"still: expected a fraction of the training from 0 to 1, got {still}")
        if prototypes < 2 or dim < 1:
            raise UserError(f"expected at least 2 prototypes of at least 1 dimension, got {prototypes} of {dim}")
        for name, value in (("epsilon", epsilon), ("temperature", temperature)):
            if not 0 < value < math.inf:
                raise UserError(f"{name}: expected a number above 0, got {value}")
        self.epsilon, self.temperature, self.still = epsilon, temperature, still
        self.moving = still == 0
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))

    def partial_loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """`functional.prototype_loss` of own rows, with prototype assignments computed over all rows.

        Terms:
            perplexity: Effective number of prototypes in use, from the mean of both towers' probabilities.
        """
        scores_a, scores_b = self._scores(a.vector), self._scores(b.vector)
        scores = global_batch.gather(torch.stack([scores_a, scores_b], dim=1).detach())
        codes_a, codes_b = (balanced_codes(scores[:, tower], self.epsilon)[global_batch.own] for tower in (0, 1))
        loss = prototype_loss(scores_a, scores_b, codes_a=codes_a, codes_b=codes_b, temperature=self.temperature)
        usage = (scores / self.temperature).softmax(2).sum((0, 1)) / max(2 * global_batch.size, 1)
        perplexity = torch.special.entr(usage).sum().exp()
        return LossOutput(global_batch.mean(loss * len(a)), {"perplexity": perplexity})

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`."""
        return cosines(a.vector, b.vector)

    def set_progress(self, progress: float) -> None:
        """Let the prototypes learn from this fraction of the training on."""
        self.moving = progress >= self.still

    @torch.no_grad()
    def after_step(self) -> None:
        """Renormalise the prototypes to unit length."""
        if self.moving:
            self.prototypes.copy_(F.normalize(self.prototypes, dim=1, eps=1e-8))

    def _scores(self, vector: Tensor) -> Tensor:
        if vector.shape[1] != self.prototypes.shape[1]:
            raise UserError(
                f"prototypes have {self.prototypes.shape[1]} dimensions and vectors {vector.shape[1]}: "
                f"set the objective's args to {{dim: {vector.shape[1]}}}"
            )
        dtype = torch.promote_types(vector.dtype, self.prototypes.dtype)
        prototypes = self.prototypes if self.moving else self.prototypes.detach()
        return dot_products(vector.to(dtype), prototypes.to(dtype))

    def extra_repr(self) -> str:
        return f"prototypes={len(self.prototypes)}, epsilon={self.epsilon}, temperature={self.temperature}"
