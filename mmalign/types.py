"""Data types passed between data, encoders, heads, objectives and evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from mmalign.errors import UserError

Inputs = dict[str, Any]
"""Input of one encoder: collated tensors by name, as `Transform.collate` returns them."""


@dataclass(frozen=True)
class Tokens:
    """A padded set of vectors for each sample.

    The optional fields are not gathered from other processes: their readers need own rows only.

    Args:
        values: The vectors, `(batch, length, width)`.
        mask: `(batch, length)`, True = real.
        weight: Importance of each token within its sample, `(batch, length)`: at least 0, of any sum, 0 at padding,
            without a gradient; None = equal.
        origin: Of reduced tokens, the fraction of each original token in each, `(batch, length, original)`: the rows of
            real tokens sum to 1; None = these are the original tokens.
    """

    values: Tensor
    mask: Tensor
    weight: Tensor | None = None
    origin: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> "Tokens":
        weight, origin = (None if one is None else one[rows] for one in (self.weight, self.origin))
        return Tokens(self.values[rows], self.mask[rows], weight, origin)

    def to(self, *args: Any, **kwargs: Any) -> "Tokens":
        """Move the numbers (and the mask, which keeps its dtype) as `Tensor.to` does."""
        values = self.values.to(*args, **kwargs)
        weight, origin = (None if one is None else one.to(*args, **kwargs) for one in (self.weight, self.origin))
        return Tokens(values, self.mask.to(values.device), weight, origin)

    @staticmethod
    def cat(parts: Sequence["Tokens"]) -> "Tokens":
        """Join along the batch; shorter parts are padded with zeros, mask False.

        An optional field that some part lacks is dropped.
        """
        values, mask = (_padded_cat([getattr(part, name) for part in parts], 2) for name in ("values", "mask"))
        assert values is not None
        assert mask is not None
        return Tokens(
            values,
            mask,
            _padded_cat([part.weight for part in parts], 2),
            _padded_cat([part.origin for part in parts], 3),
        )


def _padded_cat(parts: Sequence[Tensor | None], padded: int) -> Tensor | None:
    """Join along the first dimension; the next ones, before dimension `padded`, are padded with zeros."""
    tensors = [part for part in parts if part is not None]
    if len(tensors) < len(parts):
        return None
    longest = [max(tensor.shape[d] for tensor in tensors) for d in range(1, padded)]
    joined = []
    for tensor in tensors:
        more = [size - tensor.shape[d] for d, size in enumerate(longest, 1)] + [0] * (tensor.ndim - padded)
        joined.append(torch.nn.functional.pad(tensor, [n for size in reversed(more) for n in (0, size)]))
    return torch.cat(joined)


@dataclass(frozen=True)
class Features:
    """What an encoder returns.

    Args:
        vector: One vector per sample, `(batch, width)`.
        tokens: The finest level: patches, word pieces, atoms, time steps.
        parts: The middle level: phrases, motifs, trajectories, beats, point groups.
    """

    vector: Tensor
    tokens: Tokens | None = None
    parts: Tokens | None = None


@dataclass(frozen=True)
class Embedding:
    """Embeddings of samples in the shared space; optional fields are None unless a head computes them.

    Args:
        vector: Unit vectors `(batch, dim)`.
        log_variance: Natural logarithm of the variance, `(batch, dim)`.
        tokens: Fine level in the shared space.
        parts: Middle level in the shared space.
        codes: Weights over the model's codebook, `(batch, codes)`.
        grounded: Normalised sums of the codes with those weights, `(batch, dim)`; set whenever `codes` is.
        tower: Name of the tower.
        reconstructed: Predictions for masked tokens, `(batch, tokens, values)`; mask True = masked. Set only in
            training and validation, as the next two.
        original: Targets of the reconstruction, of the same shape.
        decoded: The decoder's features of the tokens, `(batch, tokens, width)`; mask True = masked.

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
    grounded: Tensor | None = None
    tower: str = ""
    reconstructed: Tokens | None = None
    original: Tokens | None = None
    decoded: Tokens | None = None

    def __len__(self) -> int:
        return self.vector.shape[0]

    @property
    def uncertainty(self) -> Tensor:
        """Uncertainty of each sample: the sum of its variances, `(batch,)`; needs a `log_variance`."""
        if self.log_variance is None:
            raise UserError(
                f"embeddings of {self.tower or 'this model'} have no log_variance: train with a probabilistic "
                "objective (pcmepp, prolip) to have an uncertainty for each sample"
            )
        return self.log_variance.clamp(-20.0, 10.0).exp().sum(1)  # as the objectives bound it

    def each(self, change: Callable[[Any], Any]) -> "Embedding":
        """Apply a function to every field that is set, a tensor or `Tokens`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tower"}
        return replace(self, **{name: change(v) for name, v in values.items() if v is not None})

    def map(self, change: Callable[[Tensor], Tensor]) -> "Embedding":
        """Apply a function to every tensor of numbers; masks, weights and origins of tokens are unchanged."""
        return self.each(
            lambda v: Tokens(change(v.values), v.mask, v.weight, v.origin) if isinstance(v, Tokens) else change(v)
        )

    def __getitem__(self, rows: Tensor | slice) -> "Embedding":
        """Select rows by an index tensor or a slice."""
        return self.each(lambda value: value[rows])

    def to(self, *args: Any, **kwargs: Any) -> "Embedding":
        """Move or cast every field as `Tensor.to` does; masks keep their dtype."""
        return self.each(lambda value: value.to(*args, **kwargs))

    @staticmethod
    def cat(parts: Sequence["Embedding"]) -> "Embedding":
        """Join along the batch; parts must have the same fields."""
        if not parts:
            raise ValueError("expected at least one Embedding to join, got none")
        joined: dict[str, Any] = {"tower": parts[0].tower}
        for name in ("vector", "log_variance", "codes", "grounded"):
            values = [getattr(part, name) for part in parts]
            joined[name] = None if values[0] is None else torch.cat(values)
        for name in ("tokens", "parts", "reconstructed", "original", "decoded"):
            values = [getattr(part, name) for part in parts]
            joined[name] = None if values[0] is None else Tokens.cat(values)
        return Embedding(**joined)


@dataclass(frozen=True)
class Mixed:
    """Rows of a tower that were mixed from two samples (Mixup, CutMix), and their weights.

    Args:
        groups: The group of each row's second sample, `(rows,)`.
        weight: Weight of its own sample in each row, `(rows,)`; 1 = not mixed.
    """

    groups: Tensor
    weight: Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Mixed":
        return Mixed(self.groups[rows], self.weight[rows])

    def labels(self, groups: Tensor) -> Tensor:
        """Soft match labels, `(rows, rows)`: the weight in row i of the sample of column j.

        Args:
            groups: The group of each row's own sample, `(rows,)`.

        Example:
            >>> mixed = Mixed(torch.tensor([1, 1]), torch.tensor([0.75, 1.0]))
            >>> mixed.labels(torch.tensor([0, 1]))
            tensor([[0.7500, 0.2500],
                    [0.0000, 1.0000]])
        """
        own, other = groups[:, None] == groups, self.groups[:, None] == groups
        weight = self.weight[:, None]
        return weight * own + (1 - weight) * other


@dataclass(frozen=True)
class Guide:
    """What a frozen guide knows of the rows of a pair, to find false negatives.

    Args:
        a: Its unit vectors of tower a, `(rows, width)`.
        b: Its unit vectors of tower b, `(rows, width)`.
        margin: Absolute margin, see `functional.FalseNegatives`.
        relative_margin: Margin as a fraction of the positive's similarity.
    """

    a: Tensor
    b: Tensor
    margin: float = 0.0
    relative_margin: float = 0.0

    def __getitem__(self, rows: Tensor | slice) -> "Guide":
        return replace(self, a=self.a[rows], b=self.b[rows])


@dataclass
class Batch:
    """Paired samples of one step.

    Args:
        inputs: By tower name, the collated inputs of the samples that have that tower; a list of such where the tower
            runs in chunks (`model.towers.NAME.chunk`).
        sample_indices: By tower name, the indices in the batch of those samples, ascending `(present,)`.
        ids: One integer per sample, `(batch,)`: its index in the data set.
        groups: One integer per sample, `(batch,)`: equal group = also a positive.
        mixed: By tower name, its samples that were mixed from two, of length `batch`.
        guides: By names of towers a and b, the guide of that pair, of length `batch`.
        owner: By name of a tower with several items per sample (`data.draw`), the index in the batch of the sample of
            each item, ascending `(items,)`; the tower's inputs then have `items` rows, not `present`.
        again: By name of a tower that is paired with itself (`data.views`), the inputs of the samples' second views.
    """

    inputs: dict[str, Inputs | list[Inputs]]
    sample_indices: dict[str, Tensor]
    ids: Tensor
    groups: Tensor
    mixed: dict[str, Mixed] = field(default_factory=dict)
    guides: dict[tuple[str, str], Guide] = field(default_factory=dict)
    owner: dict[str, Tensor] = field(default_factory=dict)
    again: dict[str, Inputs | list[Inputs]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Move every tensor to a device (Lightning calls this)."""
        return self._each(lambda value: value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value)

    def pin_memory(self) -> "Batch":
        """Copy every tensor to memory from which a GPU copies without waiting (torch's loader calls this)."""
        return self._each(lambda value: value.pin_memory() if isinstance(value, Tensor) else value)

    @property
    def is_pinned(self) -> bool:
        """Whether the tensors are in such memory."""
        return self.ids.is_pinned()

    def _each(self, change: Callable[[Any], Any]) -> "Batch":
        """The batch with every tensor changed."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            if isinstance(value, list):
                return [move(item) for item in value]
            return change(value)

        mixed = {name: Mixed(move(one.groups), move(one.weight)) for name, one in self.mixed.items()}
        guides = {pair: replace(one, a=move(one.a), b=move(one.b)) for pair, one in self.guides.items()}
        rows, owner, again = (move(value) for value in (self.sample_indices, self.owner, self.again))
        return Batch(move(self.inputs), rows, move(self.ids), move(self.groups), mixed, guides, owner, again)


@dataclass(frozen=True)
class LossOutput:
    """A loss to minimise, and values to log.

    Args:
        loss: Scalar with a graph.
        terms: Detached scalars by name.
    """

    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
