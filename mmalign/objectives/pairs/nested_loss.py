"""Matryoshka training: the loss of a term on nested sizes of the vectors."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.nested_sizes import truncate_vectors
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.types import Embedding, Guide, LossOutput, Mixed


def nested_loss(
    objective: Objective,
    a: Embedding,
    b: Embedding,
    groups: Tensor | None = None,
    mixed: Mixed | None = None,
    *,
    dims: Sequence[int] = (),
    guide: Guide | None = None,
    owner: Tensor | None = None,
) -> LossOutput:
    """The mean of an objective's losses on the full vectors and on their first numbers.

        loss = mean over d in {dim} and dims of  objective(unit(a[:, :d]), unit(b[:, :d]))

    (Kusupati et al. 2022, Matryoshka representation learning, arXiv 2205.13147, equation 1, with equal weights and
    divided by their number, so that the loss does not grow with it.) Without `dims` it is the objective's own loss, to
    the bit.

    Args:
        objective: An objective that compares vectors of any size.
        a: Own rows of tower a.
        b: Own rows of tower b.
        groups: As for the objective.
        mixed: As for the objective.
        dims: Sizes besides the full one.
        guide: As for the objective.
        owner: As for the objective.

    Returns:
        The loss; the terms are those of the full size, and `loss_<d>` for each size.

    Example:
        >>> from mmalign.objectives.contrastive import ClipObjective
        >>> e = Embedding(torch.eye(4))
        >>> sorted(nested_loss(ClipObjective(), e, e, dims=[2]).terms)
        ['loss_2', 'loss_4', 'scale']
    """
    full = a.vector.shape[1]
    sizes = sorted(set(dims) - {full}, reverse=True)
    more = {name: one for name, one in (("guide", guide), ("owner", owner)) if one is not None}
    output: LossOutput = objective(a, b, groups, mixed, **more)
    if not sizes:
        return output
    losses = {full: output.loss}
    for size in sizes:
        cut = (replace(one, vector=truncate_vectors(one.vector, size)) for one in (a, b))
        losses[size] = objective(*cut, groups, mixed, **more).loss
    terms = {f"loss_{size}": loss.detach() for size, loss in losses.items()}
    return LossOutput(torch.stack([*losses.values()]).mean(), output.terms | terms)


def check_dims(pair: PairConfig, objective: Objective, dim: int | None) -> None:
    """Raise a `UserError` for sizes that are no sizes of the vectors, or an objective that has no nested sizes."""
    where = f"pair {pair.a}-{pair.b}: dims"
    if not pair.dims:
        return
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in pair.dims)
    if not whole or len(set(pair.dims)) < len(pair.dims) or min(pair.dims) < 1 or max(pair.dims) > (dim or 2**31):
        most = "" if dim is None else f" to {dim}, the size of the shared space"
        raise UserError(f"{where}: expected different sizes from 1{most}, got {pair.dims}")
    if objective.needs != {"vector"} or "dim" in inspect.signature(type(objective)).parameters:
        raise UserError(
            f"{where}: objective {pair.objective!r} does not compare vectors of any size; nested sizes need one that "
            "does, such as clip, siglip or distillation"
        )
