"""Tiled reductions of the matrix of dot products of two sets of vectors; the matrix is never stored.

These are the two primitives of the contrastive losses. Both take `x (rows, dim)` and `y (columns, dim)` of one floating
type; scales are multiplied into `x` beforehand, so that their gradients come from autograd.
"""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from mmalign.errors import UserError

# Edge of a tile. On the CPU a float32 tile should fit the shared cache; a GPU needs fewer, larger products.
TILE = {"cpu": 2048, "cuda": 4096}

_LOG2_E = math.log2(math.e)


class TileMask(Protocol):
    """Pairs that are left out of a reduction, tile by tile."""

    def tile(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Whether each pair leaves the sum of its row, and that of its column, `(rows, columns)` booleans each."""


def dot_logsumexp(x: Tensor, y: Tensor, drop: TileMask | None = None) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of the rows and of the columns of `x @ y.T`, from one pass over its tiles.

    Backward recomputes every tile: four matrix products in all, and memory for two tiles. An empty sum is -inf. Pairs
    that `drop` marks are left out; a mask that marks none changes no bit.

    Shape:
        `(rows, dim)`, `(columns, dim)` -> `(rows,)`, `(columns,)`.

    Raises:
        UserError: got NaN or infinity in. Checked on the CPU; on other devices the result is NaN, because a check
            would synchronise with the device at every step.

    Example:
        >>> rows, columns = dot_logsumexp(torch.zeros(2, 4), torch.zeros(3, 4))
        >>> rows.exp(), columns.exp()
        (tensor([3., 3.]), tensor([2., 2., 2.]))
    """
    return _LogSumExp.apply(x, y, drop)  # type: ignore[no-any-return]


def dot_softplus_sum(x: Tensor, y: Tensor, bias: Tensor, drop: TileMask | None = None) -> Tensor:
    """The sum of `log(1 + exp(x_i . y_j + bias))` over all pairs; `bias` has one element.

    The gradient of a tile needs only that tile, so it is summed in the same pass: three matrix products in all, one
    where no gradient is required, and memory for two tiles. A pair that `drop` marks for its row or its column is left
    out.

    Shape:
        `(rows, dim)`, `(columns, dim)`, one element -> scalar.

    Raises:
        UserError: got NaN or infinity in (checked on the CPU, as in `dot_logsumexp`).

    Example:
        >>> dot_softplus_sum(torch.zeros(2, 4), torch.zeros(3, 4), torch.tensor(0.0)) / 6
        tensor(0.6931)
    """
    if not torch.is_grad_enabled():  # a Function cannot detect this, and would sum unused gradients
        x, y, bias = x.detach(), y.detach(), bias.detach()
    return _SoftplusSum.apply(x, y, bias, drop)  # type: ignore[no-any-return]


class _Tiles:
    # Smaller border tiles reuse the memory of a full one; each is contiguous, for fast products and `exp_`.
    def __init__(self, x: Tensor, y: Tensor, factor: float = 1.0) -> None:
        self.x, self.y, self.factor = x, y, factor
        self.rows, self.columns, self.side = x.shape[0], y.shape[0], TILE.get(x.device.type, 4096)
        self.largest = min(self.side, self.rows) * min(self.side, self.columns)
        self.memory = x.new_empty(self.largest)

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        for top in range(0, self.rows, self.side):
            rows = slice(top, min(top + self.side, self.rows))
            for left in range(0, self.columns, self.side):
                columns = slice(left, min(left + self.side, self.columns))
                tile = _like(self.memory, rows, columns)
                # beta = 0: the previous content of the memory, NaN included, is not read.
                yield rows, columns, tile.addmm_(self.x[rows], self.y[columns].T, beta=0, alpha=self.factor)


def _like(memory: Tensor, rows: slice, columns: slice) -> Tensor:
    height, width = rows.stop - rows.start, columns.stop - columns.start
    return memory[: height * width].view(height, width)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, drop: TileMask | None) -> tuple[Tensor, Tensor]:
        x, y, ctx.drop = x.detach(), y.detach(), drop
        ctx.shift = _shared_shift(x, y)
        sums = None if ctx.shift is None else _sum_shifted(x, y, ctx.shift, drop)
        if sums is None:
            ctx.shift, sums = None, _sum_safely(x, y, drop)
        ctx.save_for_backward(x, y, *sums)
        return sums

    @staticmethod
    def backward(ctx: Any, grad_rows: Tensor, grad_columns: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        x, y, lse_rows, lse_columns = ctx.saved_tensors
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_y = torch.zeros_like(y) if ctx.needs_input_grad[1] else None
        tiles = _Tiles(x, y, 1.0 if ctx.shift is None else _LOG2_E)
        other = torch.empty_like(tiles.memory)
        if ctx.shift is not None:
            factor_rows = grad_rows * (ctx.shift - lse_rows).exp()
            factor_columns = grad_columns * (ctx.shift - lse_columns).exp()
        for rows, columns, tile in tiles:
            second = _like(other, rows, columns)
            if ctx.shift is not None:
                # exp(s - shift) (u_i + v_j): one exponential serves both softmaxes.
                if ctx.drop is None:
                    torch.add(factor_rows[rows, None], factor_columns[None, columns], out=second)
                else:
                    _without(factor_rows[rows, None], factor_columns[None, columns], ctx.drop, rows, columns, second)
                _exp_shifted(tile, ctx.shift).mul_(second)
            else:
                torch.sub(tile, lse_columns[None, columns], out=second).exp_().mul_(grad_columns[None, columns])
                tile.sub_(lse_rows[rows, None]).exp_().mul_(grad_rows[rows, None])
                if ctx.drop is None:
                    tile.add_(second)
                else:
                    _without(tile, second, ctx.drop, rows, columns, tile)
            _accumulate(grad_x, grad_y, tile, tiles, rows, columns)
        return grad_x, grad_y, None


class _SoftplusSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, bias: Tensor, drop: TileMask | None) -> Tensor:
        x, y, bias = x.detach(), y.detach(), bias.detach()
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_y = torch.zeros_like(y) if ctx.needs_input_grad[1] else None
        tiles, totals, slopes = _Tiles(x, y), [x.new_zeros(())], [x.new_zeros(())]
        other = torch.empty_like(tiles.memory)
        for rows, columns, tile in tiles:
            second = _like(other, rows, columns)
            tile.add_(bias)
            if drop is not None:
                of_rows, of_columns = drop.tile(rows, columns)
                tile.masked_fill_(of_rows | of_columns, -math.inf)  # log(1 + exp(-inf)) and its slope are 0
            # Beyond 40, log(1 + exp(z)) is z to the last bit of float64.
            totals.append(torch.ops.aten.softplus.out(tile, 1, 40, out=second).sum())
            if any(ctx.needs_input_grad):
                tile.sigmoid_()
                slopes.append(tile.sum())
                _accumulate(grad_x, grad_y, tile, tiles, rows, columns)
        total = torch.stack(totals).sum()
        if total.device.type == "cpu" and not math.isfinite(total):
            raise not_finite()
        ctx.save_for_backward(grad_x, grad_y, torch.stack(slopes).sum().reshape(bias.shape))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        slopes = (
            grad * saved if saved is not None and needed else None
            for saved, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:3], strict=True)
        )
        return (*slopes, None)


def _accumulate(
    grad_x: Tensor | None, grad_y: Tensor | None, tile: Tensor, tiles: _Tiles, rows: slice, columns: slice
) -> None:
    if grad_x is not None:
        grad_x[rows].addmm_(tile, tiles.y[columns])
    if grad_y is not None:
        grad_y[columns].addmm_(tile.T, tiles.x[rows])


def _exp_shifted(tile: Tensor, shift: float) -> Tensor:
    # In place exp(s - shift) of logits already multiplied by log2 e: torch's exp2 takes a quarter of the time of exp.
    return (tile.sub_(shift * _LOG2_E) if shift else tile).exp2_()


def _reach(dtype: torch.dtype) -> float:
    # exp(+-reach) leaves room below the largest number for sums over billions, and above the smallest for products.
    return 0.7 * math.log(torch.finfo(dtype).max)


def _shared_shift(x: Tensor, y: Tensor) -> float | None:
    """Constant to subtract from all logits so that none overflows; None: unknown without a device synchronisation."""
    if x.device.type != "cpu":
        return None
    if not x.numel() or not y.numel():
        return 0.0
    bound = float(x.norm(dim=1).max() * y.norm(dim=1).max())  # Cauchy-Schwarz
    if not math.isfinite(bound):
        raise not_finite()
    return max(0.0, bound - _reach(x.dtype))


def _sum_shifted(x: Tensor, y: Tensor, shift: float, drop: TileMask | None) -> tuple[Tensor, Tensor] | None:
    """Both sums from one exponential per logit; None if a row or column is so low that precision is lost."""
    rows_sum, columns_sum = x.new_zeros(x.shape[0]), y.new_zeros(y.shape[0])
    for rows, columns, tile in _Tiles(x, y, _LOG2_E):
        _exp_shifted(tile, shift)
        of_rows, of_columns = _filled(tile, drop, rows, columns, 0.0)
        rows_sum[rows] += of_rows.sum(1)
        columns_sum[columns] += of_columns.sum(0)
    low = math.exp(-_reach(x.dtype))
    if shift and x.numel() and y.numel() and min(float(rows_sum.min()), float(columns_sum.min())) < low:
        return None
    return rows_sum.log_().add_(shift), columns_sum.log_().add_(shift)


def _sum_safely(x: Tensor, y: Tensor, drop: TileMask | None) -> tuple[Tensor, Tensor]:
    """Both sums, with each tile's row and column maxima subtracted first: exact for logits of any size."""
    lse_rows = x.new_full((x.shape[0],), -math.inf)
    lse_columns = y.new_full((y.shape[0],), -math.inf)
    for rows, columns, tile in _Tiles(x, y):
        of_rows, of_columns = _filled(tile, drop, rows, columns, -math.inf)
        lse_rows[rows] = torch.logaddexp(lse_rows[rows], of_rows.logsumexp(1))
        lse_columns[columns] = torch.logaddexp(lse_columns[columns], of_columns.logsumexp(0))
    return lse_rows, lse_columns


def _filled(tile: Tensor, drop: TileMask | None, rows: slice, columns: slice, value: float) -> tuple[Tensor, Tensor]:
    """The tile for the sums of its rows and for those of its columns; dropped pairs have `value`."""
    if drop is None:
        return tile, tile
    of_rows, of_columns = drop.tile(rows, columns)
    return tile.masked_fill(of_rows, value), tile.masked_fill(of_columns, value)


def _without(by_row: Tensor, by_column: Tensor, drop: TileMask, rows: slice, columns: slice, out: Tensor) -> None:
    """The sum of two tiles, each 0 where its pair is dropped: also the NaN of a column whose pairs are all dropped."""
    of_rows, of_columns = drop.tile(rows, columns)
    torch.add(by_row.masked_fill(of_rows, 0.0), by_column.masked_fill(of_columns, 0.0), out=out)


def _refuse_second_derivative() -> None:
    # `once_differentiable` does not detect a missing part of a second derivative where the other part exists.
    if torch.is_grad_enabled():
        raise UserError("the contrastive losses have no second derivative; call backward without create_graph=True")


def not_finite() -> UserError:
    """The error for NaN or infinity, with its likely causes."""
    return UserError(
        "a contrastive loss expected finite embeddings, scale and bias, and got NaN or infinity: look for a learning "
        "rate that is too high, or for NaN in the inputs (mmalign check)"
    )
