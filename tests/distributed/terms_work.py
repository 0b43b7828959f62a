"""One step of an objective that reads any field of an embedding, on rows that lie on several processes."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from mmalign import distributed
from mmalign.objectives.distillation import DistillationObjective
from mmalign.objectives.local import LocalObjective
from mmalign.objectives.objective import Objective
from mmalign.objectives.prototypes import PrototypeObjective
from mmalign.objectives.self_supervised import MaskedObjective, ViewsObjective
from mmalign.types import Embedding, Tokens

OBJECTIVES: dict[str, type[Objective]] = {
    "local": LocalObjective,
    "prototypes": PrototypeObjective,
    "distillation": DistillationObjective,
    "views": ViewsObjective,
    "masked": MaskedObjective,
}
LENGTH = {"a": 4, "b": 3}


@dataclass
class Trial:
    """What is run: `frozen` keeps side b's tower out of training, as a teacher's is."""

    objective: str
    counts: list[int]
    arguments: dict[str, Any] = field(default_factory=dict)
    frozen: bool = False


@dataclass
class Outcome:
    loss: Tensor
    terms: dict[str, Tensor]
    gradients: dict[str, Tensor]
    inputs: dict[str, Tensor]


class Towers(nn.Module):
    """Each side one linear layer, from which every field of its embedding comes."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a, self.b = nn.Linear(5, 4), nn.Linear(3, 4)
        self.objective = OBJECTIVES[trial.objective](**trial.arguments)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.b.requires_grad_(not trial.frozen)

    def forward(self, a: Tensor, mask_a: Tensor, b: Tensor, mask_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        output = self.objective(_embed(self.a(a), mask_a), _embed(self.b(b), mask_b))
        return output.loss, output.terms


def _embed(values: Tensor, mask: Tensor) -> Embedding:
    tokens = Tokens(values, mask)
    return Embedding(F.normalize(values[:, 0], dim=1), log_variance=values[:, 1] - 2, tokens=tokens, residual=tokens)


def step(trial: Trial) -> Outcome:
    """Loss, terms and every gradient of this process's rows, averaged as DDP does where there is a process group."""
    generator = torch.Generator().manual_seed(0)
    total = sum(trial.counts)
    own = distributed.own_rows(trial.counts) if distributed.is_distributed() else slice(0, total)
    leaves, given = {}, []
    for side, width in (("a", 5), ("b", 3)):
        length = LENGTH[side]
        values = torch.randn(total, length, width, generator=generator, dtype=torch.float64)
        mask = torch.arange(length) < torch.randint(0, length + 1, (total, 1), generator=generator)  # some have none
        leaves[side] = values[own].requires_grad_()
        given += [leaves[side], mask[own]]
    model = Towers(trial).double()
    trained = DistributedDataParallel(model) if distributed.is_distributed() else model
    loss, terms = trained(*given)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    inputs = {side: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for side, leaf in leaves.items()}
    return Outcome(loss.detach(), terms, gradients, inputs)
