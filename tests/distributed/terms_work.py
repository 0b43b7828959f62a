"""One step of an objective that reads any field of an embedding, on rows that lie on several processes."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from mmalign import distributed
from mmalign.objectives.contrastive import ClipObjective
from mmalign.objectives.distillation import DistillationObjective
from mmalign.objectives.global_batch import GlobalBatch
from mmalign.objectives.local import LocalObjective
from mmalign.objectives.masked import ComaskedObjective, MaskedObjective
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.nested_loss import nested_loss
from mmalign.objectives.prototypes import PrototypeObjective
from mmalign.objectives.self_supervised import ViewsObjective
from mmalign.types import Embedding, LossOutput, Tokens

LENGTH = {"a": 4, "b": 3}


class WrittenByAnAuthor(Objective):
    """Own rows against all rows, in both directions, over three kinds of fields, with a term of each row."""

    needs = frozenset({"vector", "tokens", "log_variance"})

    def loss(self, a: Embedding, b: Embedding, global_batch: GlobalBatch) -> LossOutput:
        def entropy(own: Tensor, every: Tensor) -> Tensor:
            return F.cross_entropy(3 * own @ every.T, global_batch.own_indices, reduction="none")

        def pooled(tokens: Tokens | None) -> Tensor:
            assert tokens is not None
            return torch.where(tokens.mask[:, :, None], tokens.values, 0.0).sum(1)

        losses = entropy(a.vector, global_batch.b.vector) + entropy(b.vector, global_batch.a.vector)
        losses = losses + entropy(pooled(a.tokens), pooled(global_batch.b.tokens))
        hardest = (a.vector @ global_batch.b.vector.T).masked_fill(global_batch.positives, -1.0).amax(1)
        assert a.log_variance is not None
        sizes = global_batch.gather(a.log_variance.exp().sum(1)) @ global_batch.b.log_variance.exp().sum(1)
        return LossOutput(losses + hardest.relu() + sizes / global_batch.size, {"hardest": hardest.detach()})


class NestedSizes(nn.Module):
    """CLIP on the full vectors and on their first two numbers, as `PairConfig.dims` trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = ClipObjective(7.0)

    def forward(self, a: Embedding, b: Embedding) -> LossOutput:
        return nested_loss(self.clip, a, b, dims=[2])


OBJECTIVES: dict[str, type[nn.Module]] = {
    "local": LocalObjective,
    "prototypes": PrototypeObjective,
    "distillation": DistillationObjective,
    "views": ViewsObjective,
    "masked": MaskedObjective,
    "comasked": ComaskedObjective,
    "written by an author": WrittenByAnAuthor,
    "nested sizes": NestedSizes,
}


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
    tokens = Tokens(values, mask, values[:, :, 0].detach().abs())
    original = Tokens(values.detach().roll(1, 2), mask)
    return Embedding(
        F.normalize(values[:, 0], dim=1),
        log_variance=values[:, 1] - 2,
        tokens=tokens,
        reconstructed=tokens,
        original=original,
        decoded=Tokens(values[:, :3], mask[:, :3]),  # both views of comasked have as many tokens
    )


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
