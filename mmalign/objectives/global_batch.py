"""The global batch of one step: the rows of all processes, gathered when they are read."""

from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.objectives.functional.false_negatives import FalseNegatives, limits
from mmalign.types import Embedding, Guide, Mixed, Tokens


class GlobalBatch:
    """The rows of all processes, in order of rank; what is not read is not gathered.

    Every gather is differentiable: each process receives the gradient that all processes' losses have with respect to
    its own rows. All processes must read the same things in the same order, a process without rows included.

    Args:
        a: Own rows of tower a.
        b: Own rows of tower b; row i belongs to row i of `a`.
        groups: `(own rows,)` integers; equal groups are positives of each other. Default: each row is a group.
        mixed: Own rows of tower a that were mixed from two samples.
        guide: What a frozen guide knows of the own rows.
        owner: The own row of `a` that each row of `b` belongs to, ascending `(own items,)`: `b` then has several rows,
            its items, for a row of `a`. Default: one each.

    Attributes:
        a: All rows of tower a, field by field (`GatheredEmbedding`).
        b: All rows of tower b.
        mixed: As given, own rows.

    Raises:
        UserError: the towers, the groups or the owners differ in their number of rows.

    Example:
        >>> batch = GlobalBatch(Embedding(torch.eye(2)), Embedding(torch.eye(2)))
        >>> batch.size, batch.own_indices, batch.b.vector.shape
        (2, tensor([0, 1]), torch.Size([2, 2]))
    """

    def __init__(
        self,
        a: Embedding,
        b: Embedding,
        groups: Tensor | None = None,
        mixed: Mixed | None = None,
        guide: Guide | None = None,
        owner: Tensor | None = None,
    ) -> None:
        expected = len(a) if owner is None else len(owner)
        if len(b) != expected or (groups is not None and len(groups) != len(a)):
            came = "" if groups is None else f" and {len(groups)} groups"
            of_b = "as of tower b" if owner is None else f"as groups, and {expected} of tower b, one for each owner"
            raise UserError(f"expected as many rows of tower a {of_b}, got {len(a)} and {len(b)}{came}")
        self._rows, self._own_groups, self._device = _Rows(len(a), a.vector.device), groups, a.vector.device
        self._own_owner, self._items = owner, self._rows if owner is None else _Rows(len(b), b.vector.device)
        self.a, self.b = GatheredEmbedding(a, self._rows), GatheredEmbedding(b, self._items)
        self.mixed, self._guide = mixed, guide

    @property
    def counts(self) -> list[int]:
        """Number of rows of each process."""
        return self._rows.counts

    @property
    def size(self) -> int:
        """Number of rows of all processes."""
        return sum(self.counts)

    @property
    def own(self) -> slice:
        """Slice of this process's rows among all rows."""
        return distributed.own_rows(self.counts)

    @property
    def own_items(self) -> slice:
        """Slice of this process's rows of tower b among all of its rows; `own`, unless there are owners."""
        return distributed.own_rows(self._items.counts)

    @property
    def own_indices(self) -> Tensor:
        """Index of each own row among all rows, `(own rows,)`: the targets of a softmax over all rows."""
        return torch.arange(self.own.start, self.own.stop, device=self._device)

    @cached_property
    def groups(self) -> Tensor:
        """Group of each of all rows, `(all rows,)`; equal groups are positives of each other."""
        if self._own_groups is None:
            return torch.arange(self.size, device=self._device)
        return distributed.gather_rows(self._own_groups, self.counts)

    @cached_property
    def owner(self) -> Tensor:
        """The row of tower a, among all rows, that each of all rows of tower b belongs to, `(all items,)`."""
        if self._own_owner is None:
            return torch.arange(self.size, device=self._device)
        return self.gather_items(self._own_owner + self.own.start)

    @property
    def item_groups(self) -> Tensor:
        """Group of each of all rows of tower b, `(all items,)`: that of its owner."""
        return self.groups if self._own_owner is None else self.groups[self.owner]

    @property
    def positives(self) -> Tensor:
        """Whether each own row and each of all rows are positives, `(own rows, all rows)` booleans."""
        return self.groups[self.own, None] == self.groups

    @cached_property
    def false_negatives(self) -> FalseNegatives | None:
        """Pairs of own rows and all rows that the guide takes for positives; None without a guide."""
        guide = self._guide
        if guide is None:
            return None
        own = limits(guide.a, guide.b, guide.margin, guide.relative_margin)
        gathered = self.gather(guide.b), self.gather(own)
        return FalseNegatives(guide.a, gathered[0], own, gathered[1], self.groups[self.own], self.groups)

    @overload
    def gather(self, rows: Tensor) -> Tensor: ...
    @overload
    def gather(self, rows: Tokens) -> Tokens: ...
    def gather(self, rows: Tensor | Tokens) -> Tensor | Tokens:
        """The same of all rows, for what was computed from the own rows: `(own rows, ...)` -> `(all rows, ...)`."""
        return self._rows.gather(rows)

    def gather_items(self, items: Tensor) -> Tensor:
        """As `gather`, for what was computed from the own rows of tower b: `(own items, ...)` -> `(all items, ...)`."""
        return self._items.gather(items)

    def mean(self, losses: Tensor) -> Tensor:
        """Part of the mean over all rows that this process contributes; the parts of all processes sum to the mean.

        Args:
            losses: One number for each own row, `(own rows,)`.
        """
        return losses.sum() / max(self.size, 1)


class _Rows:
    """How many rows each process has, and the gather that needs these numbers.

    Batch and embeddings both refer to it and not to each other: a cycle would keep the gathered rows, and the graph of
    the step, until the garbage collector runs.
    """

    def __init__(self, own: int, device: torch.device) -> None:
        self._own, self._device = own, device

    @cached_property
    def counts(self) -> list[int]:
        return distributed.row_counts(self._own, self._device)

    @overload
    def gather(self, rows: Tensor) -> Tensor: ...
    @overload
    def gather(self, rows: Tokens) -> Tokens: ...
    def gather(self, rows: Tensor | Tokens) -> Tensor | Tokens:
        if isinstance(rows, Tokens):
            return distributed.gather_tokens(rows, self.counts)
        return distributed.gather_rows(rows, self.counts)


class GatheredEmbedding:
    """All rows of one tower: the fields of `Embedding`, each gathered when it is first read.

    Args:
        own: Own rows of the tower.
        rows: The numbers of rows of all processes.
    """

    def __init__(self, own: Embedding, rows: _Rows) -> None:
        self._own, self._rows = own, rows

    @cached_property
    def vector(self) -> Tensor:
        """Unit vectors, `(all rows, dim)`."""
        return self._tensor("vector")

    @cached_property
    def log_variance(self) -> Tensor:
        """Natural logarithm of the variances, `(all rows, dim)`."""
        return self._tensor("log_variance")

    @cached_property
    def codes(self) -> Tensor:
        """Weights over the codebook, `(all rows, codes)`."""
        return self._tensor("codes")

    @cached_property
    def grounded(self) -> Tensor:
        """Vectors computed from the codes, `(all rows, dim)`."""
        return self._tensor("grounded")

    @cached_property
    def tokens(self) -> Tokens:
        """Token sets, values `(all rows, longest, dim)`."""
        return self._tokens("tokens")

    @cached_property
    def parts(self) -> Tokens:
        """Part sets, values `(all rows, longest, dim)`."""
        return self._tokens("parts")

    def _tensor(self, name: str) -> Tensor:
        value = self._field(name)
        assert isinstance(value, Tensor)
        return self._rows.gather(value)

    def _tokens(self, name: str) -> Tokens:
        value = self._field(name)
        assert isinstance(value, Tokens)
        return self._rows.gather(value)

    def _field(self, name: str) -> Tensor | Tokens:
        value: Tensor | Tokens | None = getattr(self._own, name)
        if value is None:
            tower = self._own.tower or "this tower"
            raise UserError(f"embeddings of {tower} have no {name}: add {name!r} to the objective's `needs`")
        return value
