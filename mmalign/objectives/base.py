"""The contract of an objective, and the sum over pairs that a model is trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.types import Batch, Embedding, LossOutput


class Objective(nn.Module):
    """A loss between two sides whose rows answer to each other, and the similarity it trains.

    Rows are this process's own: an objective gathers what it needs through `mmalign.distributed`, so that value and
    every gradient, averaged over processes as DDP does, equal those of one process on the whole batch.

    Class attributes:
        needs: The fields of `Embedding` that it reads, among vector, log_variance, tokens, parts, codes. Only the
            heads that some objective needs are built.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"vector"})

    def forward(self, a: Embedding, b: Embedding, groups: Tensor | None = None) -> LossOutput:
        """The loss of paired rows; rows of equal `groups` (batch,) are positives of each other too."""
        raise TypeError(f"{type(self).__name__} must define forward(a, b, groups) -> LossOutput")

    def score(self, a: Embedding, b: Embedding) -> Tensor:
        """Similarity of every row of `a` with every row of `b`, `(len(a), len(b))`: higher = more alike."""
        raise TypeError(f"{type(self).__name__} must define score(a, b) -> Tensor")

    def after_step(self) -> None:
        """Put learnt constants back into their range; called after every optimiser step."""


@dataclass
class PairConfig:
    """One pair of towers and how it is trained.

    Args:
        a: Name of the first tower.
        b: Name of the second tower.
        objective: Registered name of the objective.
        args: Its arguments.
        weight: Factor of this pair's loss in the sum.
    """

    a: str
    b: str
    objective: str = "clip"
    args: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0


class PairSum(nn.Module):
    """The weighted sum of the pairs' objectives; rows that lack a side leave that pair's loss."""

    def __init__(self, pairs: Sequence[PairConfig]) -> None:
        super().__init__()
        if not pairs:
            raise UserError("a model needs at least one pair, for instance: pairs: [{a: image, b: text}]")
        self.pairs = list(pairs)
        self.objectives = nn.ModuleList(_build(pair) for pair in pairs)

    @property
    def needs(self) -> frozenset[str]:
        """The union of what the objectives need."""
        return frozenset().union(*(objective.needs for objective in self._typed()))

    def _typed(self) -> list[Objective]:
        return [objective for objective in self.objectives if isinstance(objective, Objective)]

    def forward(self, embeddings: Mapping[str, Embedding], batch: Batch) -> LossOutput:
        """Sum over pairs; terms are named `<a>_<b>/<term>`, with the loss of each pair as `<a>_<b>/loss`."""
        losses, terms = [], {}
        for pair, objective in zip(self.pairs, self._typed(), strict=True):
            a, b, rows = common_rows(embeddings, batch, pair.a, pair.b)
            output = objective(a, b, batch.groups[rows])
            losses.append(pair.weight * output.loss)
            label = f"{pair.a}_{pair.b}"
            if f"{label}/loss" in terms:  # two objectives on one pair
                label = f"{label}_{pair.objective}"
            terms[f"{label}/loss"] = output.loss.detach()
            terms.update({f"{label}/{name}": value for name, value in output.terms.items()})
        return LossOutput(torch.stack(losses).sum(), terms)

    def between(self, a: str, b: str) -> tuple[Objective, bool]:
        """The first objective that joins two towers, and whether its sides are swapped (b, a)."""
        for pair, objective in zip(self.pairs, self._typed(), strict=True):
            if (pair.a, pair.b) == (a, b):
                return objective, False
            if (pair.a, pair.b) == (b, a):
                return objective, True
        trained = ", ".join(f"{pair.a}-{pair.b}" for pair in self.pairs)
        raise UserError(f"no objective joins {a!r} and {b!r}; this model was trained on: {trained}")

    def after_step(self) -> None:
        """Let every objective put its learnt constants back into their range."""
        for objective in self._typed():
            objective.after_step()


def common_rows(
    embeddings: Mapping[str, Embedding], batch: Batch, a: str, b: str
) -> tuple[Embedding, Embedding, Tensor]:
    """The rows that have both sides: `a`'s and `b`'s embeddings of them, aligned, and their places in the batch."""
    rows_a, rows_b = batch.rows[a], batch.rows[b]
    if len(rows_a) == len(rows_b) == len(batch):
        return embeddings[a], embeddings[b], rows_a
    in_a, in_b = torch.isin(rows_a, rows_b), torch.isin(rows_b, rows_a)
    return embeddings[a][in_a], embeddings[b][in_b], rows_a[in_a]


def _build(pair: PairConfig) -> Objective:
    factory = registry.load("objectives", pair.objective)
    try:
        objective = factory(**pair.args)
    except TypeError as error:
        raise UserError(f"objective {pair.objective!r}: {error}") from error
    if not isinstance(objective, Objective):
        raise UserError(f"objective {pair.objective!r} is a {type(objective).__name__}, not an Objective")
    return objective
