"""The nouns: what flows from data to encoder, head, objective and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

Inputs = dict[str, Any]
"""What one encoder takes: collated tensors by name, as its `Transform.collate` made them."""


@dataclass(frozen=True)
class Tokens:
    """A padded set of vectors for each sample.

    Shape:
        values `(batch, length, width)`; mask `(batch, length)`, True = real.
    """

    values: Tensor
    mask: Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Tokens":
        return Tokens(self.values[rows], self.mask[rows])

    def to(self, *args: Any, **kwargs: Any) -> "Tokens":
        """Move the values (and the mask, which keeps its dtype) as `Tensor.to` does."""
        values = self.values.to(*args, **kwargs)
        return Tokens(values, self.mask.to(values.device))

    @staticmethod
    def cat(parts: Sequence["Tokens"]) -> "Tokens":
        """Join along the batch; shorter parts are padded with zeros, mask False."""
        length = max(part.values.shape[1] for part in parts)
        padded = [length - part.values.shape[1] for part in parts]
        values = [torch.nn.functional.pad(p.values, (0, 0, 0, n)) for p, n in zip(parts, padded, strict=True)]
        masks = [torch.nn.functional.pad(p.mask, (0, n)) for p, n in zip(parts, padded, strict=True)]
        return Tokens(torch.cat(values), torch.cat(masks))


@dataclass(frozen=True)
class Features:
    """What an encoder returns.

    Args:
        vector: One vector a sample, `(batch, width)`.
        tokens: The finest grains: patches, word pieces, atoms, samples.
        parts: The middle grain: phrases, motifs, trajectories, beats, point groups.
    """

    vector: Tensor
    tokens: Tokens | None = None
    parts: Tokens | None = None


@dataclass(frozen=True)
class Embedding:
    """What lives in the shared space; optional fields are there only where a head made them.

    Args:
        vector: Unit vectors `(batch, dim)`.
        log_variance: Natural logarithm of the variance, `(batch, dim)`.
        tokens: Fine grains in the shared space.
        parts: Middle grains in the shared space.
        codes: Weights over a shared codebook, `(batch, codes)`.
        modality: The name of the tower that made it.

    Example:
        >>> e = Embedding(torch.eye(3))
        >>> len(e[torch.tensor([0, 2])])
        2
    """

    vector: Tensor
    log_variance: Tensor | None = None
    tokens: Tokens | None = None
    parts: Tokens | None = None
    codes: Tensor | None = None
    modality: str = ""

    def __len__(self) -> int:
        return self.vector.shape[0]

    def _map(self, change: Any) -> "Embedding":
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "modality"}
        return replace(self, **{name: change(v) for name, v in values.items() if v is not None})

    def __getitem__(self, rows: Tensor | slice) -> "Embedding":
        """Take rows: an index tensor or a slice."""
        return self._map(lambda value: value[rows])

    def to(self, *args: Any, **kwargs: Any) -> "Embedding":
        """Move or cast every field as `Tensor.to` does; masks keep their dtype."""
        return self._map(lambda value: value.to(*args, **kwargs))

    @staticmethod
    def cat(parts: Sequence["Embedding"]) -> "Embedding":
        """Join along the batch; parts must carry the same fields."""
        if not parts:
            raise ValueError("expected at least one Embedding to join, got none")
        joined: dict[str, Any] = {"modality": parts[0].modality}
        for name in ("vector", "log_variance", "codes"):
            values = [getattr(part, name) for part in parts]
            joined[name] = None if values[0] is None else torch.cat(values)
        for name in ("tokens", "parts"):
            values = [getattr(part, name) for part in parts]
            joined[name] = None if values[0] is None else Tokens.cat(values)
        return Embedding(**joined)


@dataclass
class Batch:
    """Paired samples of one step.

    Args:
        inputs: By tower name, the collated inputs of the rows that have that side.
        rows: By tower name, which rows of the batch those are, ascending `(present,)`.
        ids: One integer a sample, `(batch,)`: its place in the data set.
        groups: One integer a sample, `(batch,)`: equal group = also a positive.
    """

    inputs: dict[str, Inputs]
    rows: dict[str, Tensor]
    ids: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Move every tensor to a device (Lightning calls this)."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

        return Batch(move(self.inputs), move(self.rows), move(self.ids), move(self.groups))


@dataclass(frozen=True)
class LossOutput:
    """A loss to minimise and the numbers worth logging beside it.

    Args:
        loss: Scalar with a graph.
        terms: Detached scalars by name.
    """

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class TransportPlan(NamedTuple):
    """How the mass of one set moves onto another, for a batch of problems, and how well the solver did.

    Args:
        plan: What row i sends to column j, `(batch, rows, columns)`; zero wherever a side is padded.
        value: The regularised cost of the plan, `(batch,)`.
        error: L1 distance of the plan's marginals from what they should be, `(batch,)`, detached.
        iterations: How many iterations each problem took, `(batch,)` integers.
    """

    plan: Tensor
    value: Tensor
    error: Tensor
    iterations: Tensor
