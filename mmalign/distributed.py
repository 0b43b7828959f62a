"""The only file that uses torch.distributed: gathers the rows of all processes, with exact gradients.

Without a process group every function is the identity of one process, so callers have one path and no flags.
Every process must call the same functions in the same order, a process without rows included.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from mmalign.types import Embedding, Tokens


def is_distributed() -> bool:
    """Whether more than one process trains together."""
    return world_size() > 1


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the first of all processes: by its launcher's variables while there is no process group yet.

    Lightning starts the other processes of a run from the first one, and torchrun and SLURM start all of them; each
    reads the data before it joins the group. What one process alone prints or writes asks for this, not for `rank`.
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    if "RANK" in os.environ:  # torchrun
        return _number("RANK") == 0
    if "LOCAL_RANK" in os.environ:  # Lightning
        return _number("NODE_RANK") == 0 and _number("LOCAL_RANK") == 0
    return _number("SLURM_PROCID") == 0


def _number(variable: str) -> int:
    value = os.environ.get(variable, "0")
    return int(value) if value.isdecimal() else 0


def row_counts(rows: int, device: torch.device | str = "cpu") -> list[int]:
    """Number of rows of each process, in order of rank.

    Args:
        rows: Number of rows of this process; may be zero.
        device: Where the backend communicates: the device of the rows.

    Example:
        >>> row_counts(5)
        [5]
    """
    if not is_distributed():
        return [rows]
    counts = torch.empty(world_size(), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(counts, torch.tensor([rows], device=device))
    return [int(count) for count in counts.tolist()]


def own_rows(counts: Sequence[int]) -> slice:
    """Slice of this process's rows among all rows.

    Example:
        >>> own_rows([5])
        slice(0, 5, None)
    """
    start = sum(counts[: rank()])
    return slice(start, start + counts[rank()])


def gather_rows(tensor: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """Gather the rows of all processes in order of rank; processes may have different numbers of rows, including none.

    The gradient is exact: each process receives the sum, over processes, of the gradients of its own rows. It is the
    gradient of the *sum* of the processes' losses; DDP takes their mean, so a process's part of a loss is
    multiplied by `world_size()`. Integers are gathered without a gradient.

    Args:
        tensor: `(rows, ...)`; equal on every process but for `rows`.
        counts: Output of `row_counts`, to communicate only once for several tensors.

    Shape:
        `(rows, ...)` -> `(sum of counts, ...)`.

    Example:
        >>> gather_rows(torch.arange(3))
        tensor([0, 1, 2])
    """
    if not is_distributed():
        return tensor
    counts = row_counts(tensor.shape[0], tensor.device) if counts is None else counts
    if tensor.is_floating_point():
        return _Gather.apply(tensor, tuple(counts))  # type: ignore[no-any-return]
    return _gather(tensor, counts)


def gather_tokens(tokens: Tokens, counts: Sequence[int]) -> Tokens:
    """Gather the token sets of all processes, padded to the longest; gradients as in `gather_rows`.

    Args:
        tokens: This process's rows, of any length.
        counts: Output of `row_counts`.
    """
    if not is_distributed():
        return tokens
    values, mask = tokens.values, tokens.mask
    more = max(row_counts(values.shape[1], values.device)) - values.shape[1]
    values = torch.nn.functional.pad(values, (0, 0, 0, more))
    mask = torch.nn.functional.pad(mask, (0, more))
    return Tokens(gather_rows(values, counts), gather_rows(mask.to(torch.uint8), counts).bool())


def gather_embedding(embedding: Embedding, counts: Sequence[int]) -> Embedding:
    """Gather every field of the embeddings of all processes; gradients as in `gather_rows`.

    Args:
        embedding: This process's rows; the same fields are set on every process.
        counts: Output of `row_counts`.
    """
    return embedding.each(
        lambda value: gather_tokens(value, counts) if isinstance(value, Tokens) else gather_rows(value, counts)
    )


def merge_logsumexp(partial: Tensor) -> Tensor:
    """Elementwise log-sum-exp over the processes' partial results; -inf = empty sum.

    Shape:
        `(n,)` on every process -> `(n,)`, equal on every process.
    """
    if not is_distributed():
        return partial
    return gather_rows(partial[None], [1] * world_size()).logsumexp(0)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum over processes, without a gradient, as a new tensor."""
    total = tensor.detach().clone()
    if is_distributed():
        dist.all_reduce(total)
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: tuple[int, ...]) -> Tensor:
        ctx.counts = counts
        return _gather(tensor, counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        rows = max(ctx.counts)
        parts = [_pad(part, rows) for part in torch.split(grad, ctx.counts)]
        own = torch.empty_like(parts[0])
        dist.reduce_scatter_tensor(own, torch.cat(parts))
        return own[: ctx.counts[rank()]], None


def _gather(tensor: Tensor, counts: Sequence[int]) -> Tensor:
    rows = max(counts)
    padded = _pad(tensor.detach(), rows)
    gathered = padded.new_empty(rows * len(counts), *padded.shape[1:])
    dist.all_gather_into_tensor(gathered, padded)
    if all(count == rows for count in counts):
        return gathered
    return torch.cat([part[:count] for part, count in zip(torch.split(gathered, rows), counts, strict=True)])


def _pad(tensor: Tensor, rows: int) -> Tensor:
    if tensor.shape[0] == rows:
        return tensor.contiguous()
    return torch.cat([tensor, tensor.new_zeros(rows - tensor.shape[0], *tensor.shape[1:])])


def means(values: Mapping[str, Tensor], device: torch.device) -> Mapping[str, Tensor]:
    """The means over all processes of scalars that all of them have, by one reduction; those of one process unchanged.

    Args:
        values: Scalars by name, on any device.
        device: Where the backend communicates.
    """
    if not is_distributed():
        return values
    total = torch.stack([value.detach().to(device, torch.float32) for value in values.values()])
    dist.all_reduce(total)
    return dict(zip(values, total / world_size(), strict=True))


def reach(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The loss, whose backward pass reaches all parameters, also those without a gradient.

    DDP averages the gradients of a parameter once the backward pass has reached it in every process.

    Args:
        loss: A scalar.
        parameters: All parameters that are trained.
    """
    reached: Tensor = _Reach.apply(loss, *parameters)
    return reached


class _Reach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.count = len(parameters)
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, *[None] * ctx.count
