"""Jagged tokens: the tokens of many samples without padding, for galleries of thousands of samples."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmalign.types import Embedding, Tokens

TILE = 256
"""Maximum number of samples padded to one length at a time."""


class JaggedTokens(Tokens):
    """Concatenated real tokens; indexing returns padded `Tokens`.

    Args:
        values: The tokens of every sample, `(total, width)`.
        lengths: Number of tokens of each sample, `(samples,)`.

    Example:
        >>> packed = JaggedTokens(torch.arange(3.0)[:, None], torch.tensor([2, 1]))
        >>> packed[torch.tensor([1, 0])].mask
        tensor([[ True, False],
                [ True,  True]])
    """

    lengths: Tensor

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        super().__init__(values, torch.ones(len(values), dtype=torch.bool, device=values.device))
        object.__setattr__(self, "lengths", lengths)

    def __getitem__(self, rows: Tensor | slice) -> Tokens:
        starts = (self.lengths.cumsum(0) - self.lengths)[rows, None]
        lengths = self.lengths[rows, None]
        longest = max(1, int(lengths.max())) if len(lengths) else 1
        steps = torch.arange(longest, device=lengths.device)
        mask = steps < lengths
        values = self.values.new_zeros(*mask.shape, self.values.shape[1])
        values[mask] = self.values[(starts + steps)[mask]]
        return Tokens(values, mask)

    def keep(self, rows: Tensor) -> "JaggedTokens":
        """The samples where `rows (samples,)` is True, also jagged."""
        return JaggedTokens(self.values[rows.repeat_interleave(self.lengths)], self.lengths[rows])

    def to(self, *args: Any, **kwargs: Any) -> "JaggedTokens":
        """Move or cast the values, as `Tensor.to` does."""
        values = self.values.to(*args, **kwargs)
        return JaggedTokens(values, self.lengths.to(values.device))


def pack(parts: Iterable[Embedding], *, vectors_only: bool = False) -> Embedding:
    """Join embeddings along the batch, their tokens and parts without padding.

    Args:
        parts: At least one embedding; all with the same fields.
        vectors_only: Drop everything but the vectors.
    """
    dense, sets = [], []
    for part in parts:
        if vectors_only:
            dense.append(Embedding(part.vector, tower=part.tower))
        else:
            dense.append(replace(part, tokens=None, parts=None))
            sets.append(_unpadded(part))
    packed: dict[str, Any] = {name: _joined([one[name] for one in sets]) for name in (sets[0] if sets else ())}
    return replace(Embedding.cat(dense), **packed)


def keep(embedding: Embedding, rows: Tensor) -> Embedding:
    """The samples of an embedding where `rows (samples,)` is True; jagged tokens stay jagged."""
    sets = {name: getattr(embedding, name) for name in ("tokens", "parts")}
    packed: dict[str, Any] = {name: one.keep(rows) for name, one in sets.items() if isinstance(one, JaggedTokens)}
    bare: dict[str, Any] = dict.fromkeys(packed)
    return replace(replace(embedding, **bare)[rows], **packed)


def lengths_of(embedding: Embedding) -> Tensor | None:
    """Number of tokens (or parts, if there are no tokens) of each sample, `(samples,)`; None without either."""
    levels = embedding.tokens if embedding.tokens is not None else embedding.parts
    if levels is None:
        return None
    return levels.lengths if isinstance(levels, JaggedTokens) else levels.mask.sum(1)


def tiles_of(gallery: Embedding, most: int) -> list[Any]:
    """Rows of a gallery to score at a time, at most `most`: slices, or indices of samples of similar length."""
    lengths = lengths_of(gallery)
    if lengths is None or len(gallery) <= min(TILE, most):
        width = max(1, min(most, len(gallery)))
        return [slice(start, start + width) for start in range(0, len(gallery), width)]
    return list(torch.split(lengths.sort(stable=True).indices, max(1, min(most, TILE))))


def _unpadded(part: Embedding) -> dict[str, tuple[Tensor, Tensor]]:
    levels = {"tokens": part.tokens, "parts": part.parts}
    return {name: (one.values[one.mask], one.mask.sum(1)) for name, one in levels.items() if one is not None}


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> JaggedTokens:
    values, lengths = zip(*parts, strict=True)
    return JaggedTokens(torch.cat(values), torch.cat(lengths))
