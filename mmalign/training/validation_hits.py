"""Hit rate@1 among the first validation rows: the same for any number of processes."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.model import Aligner
from mmalign.objectives.pairs.common_rows import common_rows
from mmalign.types import Batch, Embedding

MAX_VALIDATION_ROWS, MAX_VALIDATION_SETS = 4096, 256
"""Maximum number of validation rows scored during training; fewer for token-level scores."""


class ValidationHits:
    """Hit rate@1 of every pair of towers, in both directions, among the first validation rows of all processes.

    Args:
        aligner: The model, which scores.
    """

    def __init__(self, aligner: Aligner) -> None:
        # A dictionary and not a set: all processes must take the pairs in one order.
        pairs = dict.fromkeys((pair.a, pair.b) for pair in aligner.pairs if pair.a != pair.b)
        self.aligner = aligner
        self._rows = {pair: FirstRows(self._most(pair[0])) for pair in pairs}

    def _most(self, tower: str) -> int:
        sets = self.aligner.objective.needs_of(tower) & {"tokens", "parts"}
        return MAX_VALIDATION_SETS if sets else MAX_VALIDATION_ROWS

    def add(self, embeddings: Mapping[str, Embedding], batch: Batch) -> None:
        """Add the next validation batch of this process."""
        for (a, b), first_rows in self._rows.items():
            side_a, side_b, rows = common_rows(embeddings, batch, a, b)
            first_rows.add(side_a, side_b, batch.ids[rows], batch.groups[rows])

    def rates(self) -> dict[str, Tensor]:
        """Hit rate by direction, `a_to_b`; equal on all processes, all of which must call it."""
        rates: dict[str, Tensor] = {}
        for (a, b), first_rows in self._rows.items():
            side_a, side_b, groups = first_rows.gathered()
            scores = self.aligner.similarity(side_a, side_b)
            rates |= {f"{a}_to_{b}": hit_rate(scores, groups), f"{b}_to_{a}": hit_rate(scores.T, groups)}
        return rates


class FirstRows:
    """The first rows of a pair of towers, in the order of their ids, which each process adds a batch at a time.

    Args:
        most: Maximum number of rows over all processes.
    """

    def __init__(self, most: int) -> None:
        self.most, self._rows = most, 0
        self._batches: list[tuple[Embedding, Embedding, Tensor, Tensor]] = []

    def add(self, a: Embedding, b: Embedding, ids: Tensor, groups: Tensor) -> None:
        """Add the next rows of this process, ids ascending; those beyond the maximum are not stored.

        Args:
            a: Rows of tower a.
            b: Rows of tower b; row i belongs to row i of `a`.
            ids: Index of each row in the data set, `(rows,)`.
            groups: Equal groups are positives of each other, `(rows,)`.
        """
        if self._rows < self.most or not self._batches:
            self._batches.append((_scored(a), _scored(b), ids, groups))
            self._rows += len(ids)

    def gathered(self) -> tuple[Embedding, Embedding, Tensor]:
        """The first rows of all processes in the order of their ids: towers a and b, and groups.

        Every process must call it, and gets the same.
        """
        sides_a, sides_b, ids, groups = zip(*self._batches, strict=True)
        own = torch.cat(ids)
        every = distributed.gather_rows(own).sort().values[: self.most]
        chosen = slice(0, int((own <= every[-1]).sum()) if len(every) else 0)
        counts = distributed.row_counts(chosen.stop, own.device)
        order = distributed.gather_rows(own[chosen], counts).argsort()
        side_a, side_b = (
            distributed.gather_embedding(Embedding.cat(sides)[chosen], counts)[order] for sides in (sides_a, sides_b)
        )
        return side_a, side_b, distributed.gather_rows(torch.cat(groups)[chosen], counts)[order]


def hit_rate(scores: Tensor, groups: Tensor) -> Tensor:
    """Fraction of the rows whose best positive scores above every negative, a scalar.

    Args:
        scores: `(n, n)`; row i and column i are a pair.
        groups: `(n,)`; equal groups are positives of each other.

    Example:
        >>> hit_rate(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([0, 1]))
        tensor(0.5000)
    """
    same = groups[:, None] == groups
    positive = scores.masked_fill(~same, -torch.inf).amax(1)
    negative = scores.masked_fill(same, -torch.inf).amax(1)
    return (positive > negative).float().mean()


def _scored(embedding: Embedding) -> Embedding:
    """Without the fields that only losses read."""
    return replace(embedding, reconstructed=None, original=None, decoded=None)
