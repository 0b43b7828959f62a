"""Optimal-transport similarity of two sets of tokens, for every pair of samples."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.token_checks import check_token_pair
from mmalign.objectives.functional.transport.partial import partial_sinkhorn
from mmalign.objectives.functional.transport.sinkhorn import Gradient, sinkhorn

CELLS = {"cpu": 2**20, "cuda": 2**25}
"""Maximum number of token similarities in memory at a time."""

BUCKETS, FEW = 4, 8
"""Maximum number of length groups on the CPU; smaller groups of samples would not be faster."""

Tile = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def transport_scores(
    tokens_a: Tensor,
    mask_a: Tensor,
    tokens_b: Tensor,
    mask_b: Tensor,
    *,
    epsilon: float = 0.05,
    rho_a: float | None = None,
    rho_b: float | None = None,
    mass: float | None = None,
    tolerance: float = 1e-2,
    max_iterations: int = 50,
    gradient: Gradient = "envelope",
) -> Tensor:
    """Optimal-transport similarity of the token sets of every pair of samples.

        score_ij = sum_kr P_kr <k, r>,   P = the plan of `sinkhorn` at cost 1 - <k, r>, mass even over real tokens

    for token k of `a_i` and r of `b_j`. With exact marginals the score of unit tokens lies in [-1, 1]. A pair's score
    depends on that pair only. Pairs are solved a tile at a time; with a gradient, backward recomputes each tile.

    Args:
        tokens_a: `(n, length_a, dim)`, unit vectors.
        mask_a: `(n, length_a)`, True = real.
        tokens_b: `(m, length_b, dim)`.
        mask_b: `(m, length_b)`.
        epsilon: Entropic regularisation: large = a dense plan, small = close to one-to-one.
        rho_a: Cost per unit of unmatched mass of a; None: all of it is transported.
        rho_b: The same for b.
        mass: Fraction of the mass that is transported (`partial_sinkhorn`), in (0, 1]; the plan is divided by it. None:
            all of it. Excludes `rho_a` and `rho_b`.
        tolerance: L1 error of the marginals at which a problem is converged.
        max_iterations: Maximum number of iterations.
        gradient: `envelope`: the plan is a constant, which is the gradient of the transport cost itself;
            `implicit` or `last_step`: also through the plan.

    Returns:
        `(n, m)`, in float32 (float64 where an input is). A sample without a real token has score 0, and no gradient.

    Raises:
        UserError: shapes do not fit, or (on the CPU) got NaN or infinity in a real token.

    Example:
        >>> tokens, real = torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
        >>> transport_scores(tokens, real, tokens[:, :1], real[:, :1])  # three tokens must share one
        tensor([[0.3333]])
    """
    check_token_pair(tokens_a, mask_a, tokens_b, mask_b)
    dtype = torch.promote_types(torch.promote_types(tokens_a.dtype, tokens_b.dtype), torch.float32)
    a = tokens_a.to(dtype).masked_fill(~mask_a[:, :, None], 0.0)
    b = tokens_b.to(dtype).masked_fill(~mask_b[:, :, None], 0.0)
    if a.device.type == "cpu" and not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        raise UserError("transport expected finite tokens wherever the mask is True, got NaN or infinity")

    def tile(rows: Tensor, real_rows: Tensor, columns: Tensor, real_columns: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            pairs = len(rows) * len(columns)
            alike = (rows.flatten(0, 1) @ columns.flatten(0, 1).T).view(*rows.shape[:2], *columns.shape[:2])
            alike = alike.transpose(1, 2).reshape(pairs, rows.shape[1], columns.shape[1])
            mask_rows = real_rows[:, None].expand(-1, len(columns), -1).reshape(pairs, rows.shape[1])
            mask_columns = real_columns[None].expand(len(rows), -1, -1).reshape(pairs, columns.shape[1])
            plan = transport_plan(
                alike, mask_rows, mask_columns, epsilon=epsilon, rho_a=rho_a, rho_b=rho_b, mass=mass,
                tolerance=tolerance, max_iterations=max_iterations, gradient=gradient,
            )  # fmt: skip
            return (plan * alike).sum((1, 2)).view(len(rows), len(columns))

    if a.device.type != "cpu" or not len(a) or not len(b):
        return _tiles(tile, a, mask_a, b, mask_b)
    # Samples of similar length are solved together, without padding to the longest of the batch. Not on a GPU, where
    # reading the lengths would synchronise.
    order_a, order_b = mask_a.sum(1).argsort(), mask_b.sum(1).argsort()
    rows = [_cropped(a, mask_a, part) for part in order_a.tensor_split(_groups(len(a)))]
    columns = [_cropped(b, mask_b, part) for part in order_b.tensor_split(_groups(len(b)))]
    table = torch.cat([torch.cat([_tiles(tile, *row, *column) for column in columns], dim=1) for row in rows])
    return table[order_a.argsort()][:, order_b.argsort()]


def transport_plan(
    similarity: Tensor,
    mask_a: Tensor,
    mask_b: Tensor,
    *,
    epsilon: float,
    rho_a: float | None,
    rho_b: float | None,
    mass: float | None,
    tolerance: float,
    max_iterations: int,
    gradient: Gradient,
) -> Tensor:
    """Transport plans at cost 1 - similarity, under which `transport_scores` takes the mean similarity.

    Args:
        similarity: `(batch, n, m)`.
        mask_a: `(batch, n)`, True = real.
        mask_b: `(batch, m)`.
        epsilon: Entropic regularisation, in units of the cost.
        rho_a: Cost per unit of unmatched mass of the rows; None: all of it is transported.
        rho_b: The same for the columns.
        mass: Fraction of the mass that is transported; None: all of it.
        tolerance: L1 error of the marginals at which a problem is converged.
        max_iterations: Maximum number of iterations.
        gradient: Of the plan, as in `sinkhorn`.

    Returns:
        `(batch, n, m)`, with sum 1 where all mass, or the fraction `mass`, is transported.
    """
    if mass is None:
        return sinkhorn(
            1 - similarity, epsilon, mask_a=mask_a, mask_b=mask_b, rho_a=rho_a, rho_b=rho_b,
            tolerance=tolerance, max_iterations=max_iterations, gradient=gradient,
        ).plan  # fmt: skip
    if rho_a is not None or rho_b is not None:
        raise UserError("transport: mass and rho_a or rho_b exclude each other; set one of them to null")
    return partial_sinkhorn(
        1 - similarity, epsilon, mass, mask_a=mask_a, mask_b=mask_b,
        tolerance=tolerance, max_iterations=max_iterations, gradient=gradient,
    ).plan / mass  # fmt: skip


def _groups(count: int) -> int:
    return max(1, min(BUCKETS, count // FEW))


def _cropped(tokens: Tensor, mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Select samples, cropped after the last real token of any of them."""
    real = mask[rows]
    used = int((real.any(0) * torch.arange(1, real.shape[1] + 1)).max()) if real.shape[1] else 0
    return tokens[rows, : max(used, 1)], real[:, : max(used, 1)]


def _tiles(tile: Tile, a: Tensor, mask_a: Tensor, b: Tensor, mask_b: Tensor) -> Tensor:
    cells = a.shape[1] * b.shape[1] * max(len(b), 1)
    step = max(1, CELLS.get(a.device.type, 2**25) // max(cells, 1))
    if step >= len(a):
        return tile(a, mask_a, b, mask_b)
    scores = []
    for start in range(0, len(a), step):
        part = a[start : start + step], mask_a[start : start + step], b, mask_b
        if torch.is_grad_enabled():
            scores.append(checkpoint(tile, *part, use_reentrant=False, preserve_rng_state=False))
        else:
            scores.append(tile(*part))
    return torch.cat(scores)
