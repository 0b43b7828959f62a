"""What the walks over every registered objective are made of."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.objectives.distillation import DistillationObjective
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Embedding, Tokens

WIDTH, CODES = 16, 6


def build(name: str, **arguments: Any) -> Objective:
    """An objective by its name, told the width of the embeddings here where it asks for one."""
    return PairSum([PairConfig("a", "b", name, arguments)], WIDTH).objectives[0]


def side(objective: Objective, batch: int, *, seed: int = 0, vector: Tensor | None = None) -> Embedding:
    """Whatever the objective needs, as leaves of the graph."""
    draw = torch.Generator().manual_seed(seed)
    unit = F.normalize(torch.randn(batch, WIDTH, generator=draw), dim=1) if vector is None else vector

    def levels(length: int) -> Tokens:
        mask = torch.arange(length) < torch.randint(1, length + 1, (batch, 1), generator=draw)
        values = F.normalize(torch.randn(batch, length, WIDTH, generator=draw), dim=2)
        return Tokens(values.masked_fill(~mask[:, :, None], 0.0).requires_grad_(), mask)

    made = {
        "log_variance": lambda: torch.full((batch, WIDTH), -7.0).requires_grad_(),
        "tokens": lambda: levels(5),
        "parts": lambda: levels(3),
        "reconstructed": lambda: levels(4),
        "decoded": lambda: levels(4),
        "codes": lambda: torch.rand(batch, CODES, generator=draw).softmax(1).requires_grad_(),
    }
    fields = {name: make() for name, make in made.items() if name in objective.needs}
    if "reconstructed" in fields:
        fields["original"] = Tokens(fields["reconstructed"].values.detach().roll(1, 2), fields["reconstructed"].mask)
    if "codes" in fields:
        fields["grounded"] = F.normalize(fields["codes"] @ code_book(), dim=1)
    return Embedding(unit.clone().requires_grad_("vector" in objective.needs), **fields)


def code_book() -> Tensor:
    """The codes that `side` mixes."""
    return torch.randn(CODES, WIDTH, generator=torch.Generator().manual_seed(9))


def leaves(embedding: Embedding) -> list[Tensor]:
    values = [embedding.vector, embedding.log_variance, embedding.codes]
    values += [
        levels.values
        for levels in (embedding.tokens, embedding.parts, embedding.reconstructed, embedding.decoded)
        if levels is not None
    ]
    return [value for value in values if value is not None and value.requires_grad]


def learnt(objective: Objective, a: Embedding, b: Embedding) -> list[Tensor]:
    """What a gradient must reach; a teacher's side is not taught."""
    sides = {"a": leaves(a), "b": leaves(b)}
    trained = trained_towers(objective)
    for name in {"a", "b"} - trained:
        assert all(leaf.grad is None for leaf in sides[name])
    return [*(leaf for name in sorted(trained) for leaf in sides[name]), *objective.parameters()]


def trained_towers(objective: Objective) -> set[str]:
    """Towers that get a gradient; a teacher gets none."""
    return {"a"} if isinstance(objective, DistillationObjective) else {"a", "b"}
