"""Distillation as an objective: tower a (student) learns from tower b (teacher)."""

import math
from typing import Literal

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.contrastive import cosines
from mmalign.objectives.functional.distillation import gaussian_kl, refuse_not_finite, relation_rows
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, LossOutput

Match = Literal["cosine", "gaussian", "relations"]


class DistillationObjective(Objective):
    """Distillation loss of tower a (student) from tower b (teacher, no gradient).

        cosine     mean of 1 - a_i . b_i
        gaussian   mean of KL(teacher || student) / dim                    (`functional.gaussian_kl`)
        relations  cross-entropy of the student's similarities to the other rows of the global batch, to the teacher's
                                                                           (`functional.relation_loss`)

    Freeze the teacher's tower (`freeze: true`): this loss does not train it. `groups` are ignored.

    Args:
        match: What is matched: cosine (the vectors), gaussian (means and variances) or relations (similarities between
            rows; the two spaces may differ in dimension).
        temperature: Divides the dot products of relations.

    Example:
        >>> teacher, student = Embedding(torch.eye(3)), Embedding(torch.eye(3).roll(1, 0))
        >>> objective = DistillationObjective("cosine")
        >>> objective(student, teacher).loss, objective(teacher, teacher).loss
        (tensor(1.), tensor(0.))
    """

    def __init__(self, match: Match = "cosine", temperature: float = 0.1) -> None:
        super().__init__()
        if match not in ("cosine", "gaussian", "relations"):
            raise UserError(f"match: expected cosine, gaussian or relations, got {match!r}")
        if not 0 < temperature < math.inf:
            raise UserError(f"temperature: expected a number above 0, got {temperature}")
        self.match, self.temperature = match, temperature
        self.needs = frozenset({"vector", "log_variance"} if match == "gaussian" else {"vector"})

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        """The loss of each own row, `(own rows,)`.

        Terms:
            divergence: With relations, the loss minus its lower bound, the entropy of the teacher's similarities.
        """
        dtype = torch.promote_types(torch.promote_types(a.vector.dtype, b.vector.dtype), torch.float32)
        student, teacher = a.vector.to(dtype), b.vector.detach().to(dtype)
        if self.match == "relations":
            students, teachers = global_batch.gather(student), global_batch.gather(teacher)
            loss, entropy = relation_rows(student, students, teacher, teachers, global_batch.own, self.temperature)
            return LossOutput(loss, {"divergence": loss.detach() - entropy})
        if student.shape[1] != teacher.shape[1]:
            came = f"{student.shape[1]} and {teacher.shape[1]}"
            raise UserError(f"expected vectors of one width, got {came}; match: relations takes any")
        if self.match == "cosine":
            refuse_not_finite("distillation", student, teacher)
            return LossOutput(1 - (student * teacher).sum(1))
        if a.log_variance is None or b.log_variance is None:
            raise UserError("match: gaussian expected a log_variance of both towers")
        return LossOutput(gaussian_kl(teacher, b.log_variance.detach(), student, a.log_variance))

    def similarity(self, a: Embedding, b: Embedding, score: str = "") -> Tensor:
        """Cosine of every pair, `(len(a), len(b))`."""
        return cosines(a.vector, b.vector)

    def extra_repr(self) -> str:
        return f"match={self.match}" + (f", temperature={self.temperature}" if self.match == "relations" else "")
