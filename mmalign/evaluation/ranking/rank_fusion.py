"""Rank fusion: gallery items are ranked by the mean of the ranks that several models assign (Text2Mol)."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mmalign.bundles import bundle
from mmalign.data.dataset import Dataset
from mmalign.embedding.loop import EmbeddedSplit, opened
from mmalign.embedding.scoring import Block
from mmalign.errors import UserError
from mmalign.evaluation.ranking.query_sets import QuerySet, query_sets
from mmalign.model import Aligner

_FEW = 16
"""Ties up to this length are resolved by comparing neighbours."""


def mean_rank_blocks(members: Sequence[Iterable[Block]]) -> Iterator[Block]:
    """Fuse the blocks of several models: scores are minus the sum of ranks, so that the lowest mean rank is first.

    Every model ranks all gallery items of a query, `1 + better + (equal - 1) / 2`; items are then ranked by the mean of
    these ranks (Edwards et al. 2021, Text2Mol, section 4.4). Ranks do not depend on the scale of a score, so models of
    different objectives can be combined, and a model with constant scores changes nothing.

    Args:
        members: One series of blocks per model, with equal block boundaries.

    Example:
        >>> one, two = torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([[-3.0, 7.0, 1.0]])
        >>> block = next(mean_rank_blocks([[Block(0, scores, torch.zeros(1, 1))] for scores in (one, two)]))
        >>> block.scores / 2
        tensor([[-2.0000, -1.5000, -2.5000]], dtype=torch.float64)
    """
    for blocks in zip(*members, strict=True):
        # Sums of halves are exact: no tolerance is needed.
        summed = torch.stack([mid_ranks(block) for block in blocks]).sum(dim=0)
        yield Block(blocks[0].start, -summed, summed.new_zeros(len(summed), 1))


def mid_ranks(block: Block) -> torch.Tensor:
    """The rank of every gallery item of every query, 1 = first; equal scores have their mean rank, `(rows, gallery)`.

    Example:
        >>> mid_ranks(Block(0, torch.tensor([[5.0, 7.0, 5.0, 1.0]]), torch.zeros(1, 1)))
        tensor([[2.5000, 1.0000, 2.5000, 4.0000]], dtype=torch.float64)
    """
    scores, size = block.scores, block.scores.shape[1]
    order = _ascending(scores)
    ordered = scores.gather(1, order)
    margin = block.margin if block.margin.shape[1] == 1 else block.margin.gather(1, order)
    ranks = torch.arange(size, device=scores.device) + _lean(ordered, margin).double() / 2
    return torch.empty_like(ranks).scatter_(1, order, size - ranks)


def _ascending(scores: torch.Tensor) -> torch.Tensor:
    if scores.device.type == "cpu":  # two to three times as fast as torch there
        return torch.from_numpy(scores.numpy().argsort(axis=1))
    return scores.argsort(dim=1)


def _lean(ordered: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Number of equal scores above minus below each score, in an ascending row."""
    lean = torch.zeros_like(ordered, dtype=torch.int32)
    own = margin.expand_as(ordered)
    for step in range(1, min(_FEW, ordered.shape[1])):
        gap = ordered[:, step:] - ordered[:, :-step]
        above, below = gap <= own[:, :-step], gap <= own[:, step:]
        if not bool(above.any()) and not bool(below.any()):
            return lean
        lean[:, :-step] += above
        lean[:, step:] -= below.int()
    # Long ties: the ends of each are searched.
    ends = torch.searchsorted(ordered, ordered + margin, right=True)
    starts = torch.searchsorted(ordered, ordered - margin)
    return ends + starts - 1 - 2 * torch.arange(ordered.shape[1], device=ordered.device)


def members(model: Aligner, others: Sequence[str | Path | Aligner], towers: tuple[str, str]) -> list[Aligner]:
    """The model and the other ensemble members, loaded if they are bundles, on the model's device.

    Raises:
        UserError: one is no bundle, or lacks a tower.
    """
    models = [model]
    for other in others:
        member = other if isinstance(other, Aligner) else bundle.load(other, device=model.device)
        missing = [tower for tower in towers if tower not in member.encoders]
        if missing:
            raise UserError(
                f"--ensemble {_name(member)}: has no tower {missing[0]!r}, it has {', '.join(member.towers)}"
            )
        models.append(member)
    return models


def query_sets_of(
    models: Sequence[Aligner], data: Dataset, towers: tuple[str, str], split: str, *, score: str = "", **options: Any
) -> list[tuple[dict[str, EmbeddedSplit], dict[str, QuerySet]]]:
    """The query sets of each model, embedded with its own transforms; see `query_sets`.

    Raises:
        UserError: one model can use rows that another cannot.
    """
    sets, read = [], [record.id for record in data.split(split).records]
    for model in models:
        if len(models) > 1:
            data = opened(model, data, towers, split)
            if [record.id for record in data.split(split).records] != read:
                raise UserError(f"--ensemble {_name(model)}: expected a model that can read the same rows of the data")
        of_vectors = not score and model.scores_vectors_only(*towers)
        sets.append(query_sets(model, data, towers, split, vectors_only=of_vectors, **options))
        for name, one in sets[0][1].items():
            _demand_same(one, sets[-1][1][name])
    return sets


def names(models: Sequence[Aligner]) -> list[dict[str, Any]]:
    """Path and bundle hash of each model, for the result."""
    return [{"path": _name(model), "hash": bundle.fingerprint(model.path) if model.path else None} for model in models]


def _name(model: Aligner) -> str:
    return str(model.path) if model.path else "a model that was never saved"


def _demand_same(one: QuerySet, other: QuerySet) -> None:
    pairs = ((one.queries, other.queries), (one.gallery, other.gallery))
    if any(len(a) != len(b) or not torch.equal(a.record_indices, b.record_indices) for a, b in pairs):
        sizes = [f"{len(it.queries)} queries, {len(it.gallery)} gallery items" for it in (one, other)]
        raise UserError(f"--ensemble: expected models that can use the same rows, got {sizes[0]} and {sizes[1]}")
