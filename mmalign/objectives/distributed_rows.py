"""The rows of a step, of every process: who has which, and what one process's share of a loss is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.types import Embedding


@dataclass(frozen=True)
class Rows:
    """Where this process's rows stand among all.

    Args:
        counts: Rows of each process.
        groups: Of all rows, `(total,)`; equal = positives of each other.
    """

    counts: list[int]
    groups: Tensor

    @staticmethod
    def of(a: Embedding, b: Embedding, groups: Tensor | None) -> "Rows":
        """Ask every process; without groups each row is its own.

        Raises:
            UserError: the sides differ in their number of rows.
        """
        if len(a) != len(b) or (groups is not None and len(groups) != len(a)):
            given = "" if groups is None else f" and {len(groups)} groups"
            raise UserError(f"sides of a pair must have as many rows: got {len(a)} and {len(b)}{given}")
        device = a.vector.device
        counts = distributed.row_counts(len(a), device)
        everyone = torch.arange(sum(counts), device=device)
        return Rows(counts, everyone if groups is None else distributed.gather_rows(groups, counts))

    @property
    def own(self) -> slice:
        """The rows of this process."""
        return distributed.own_rows(self.counts)

    @property
    def total(self) -> int:
        """Rows of all processes."""
        return sum(self.counts)

    def share(self, part: Tensor) -> Tensor:
        """The loss to return for a part of a whole: DDP takes the mean over processes, the parts make a sum."""
        return part * len(self.counts)

    def mean(self, values: Tensor) -> Tensor:
        """The share of the mean over all rows of one number a row, of which this process has its own."""
        return self.share(values.sum() / max(self.total, 1))
