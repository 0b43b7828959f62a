"""Transport that also keeps distances: what lies close together is moved close together (fused Gromov-Wasserstein)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.transport.problem import Problems, clean
from mmalign.objectives.functional.transport.sinkhorn import Transport, sinkhorn


def fused_gromov(
    cost: Tensor,
    distance_a: Tensor,
    distance_b: Tensor,
    epsilon: Tensor | float,
    alpha: Tensor | float = 0.5,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    rounds: int = 100,
    max_iterations: int = 200,
    gradient: Literal["envelope", "last_step"] = "envelope",
) -> Transport:
    """A plan that is cheap and under which pairs of rows lie as far apart as the columns they are moved to.

    Minimises over plans `P` with marginals `a` and `b`

        (1 - alpha) <C, P> + alpha sum_ijkl |A_ik - B_jl|^2 P_ij P_kl + epsilon KL(P | a b^T)

    (Vayer et al. 2019, arXiv 1805.09114). This is not convex: from the plan of the cost alone it goes by rounds of
    `sinkhorn` on the cost linearised at the plan before, `(1 - alpha) C + alpha * gradient` (Peyre, Cuturi and Solomon
    2016), each beginning with the former potentials, to a plan that is its own next. It may be a local optimum, and at
    small epsilon rounds may go back and forth.

    Args:
        cost: `(batch, n, m)`.
        distance_a: Distances, or the adjacency, among the rows: `(batch, n, n)`.
        distance_b: Among the columns: `(batch, m, m)`.
        epsilon: Weight of the entropy, in units of the cost: a number, or one a problem `(batch,)`.
        alpha: Share of the distances, between 0 (cost alone) and 1 (distances alone): a number or `(batch,)`.
        a: Mass of the rows, `(batch, n)`; default: 1, spread evenly over the real ones.
        b: Mass of the columns, `(batch, m)`.
        mask_a: `(batch, n)`, True = real. What stands in padded places is never read, nor distances to them.
        mask_b: `(batch, m)`.
        start: A plan to begin with, `(batch, n, m)`.
        tolerance: On the L1 error of the marginals in each round, and on the L1 change of the plan, after which a
            problem is finished and left alone.
        rounds: Where to stop in any case.
        max_iterations: Of `sinkhorn` in each round.
        gradient: Of the plan: none, or that of the last round (biased). The value's is that of the optimum.

    Returns:
        Plan, value, error of the marginals and rounds taken, and the `.potentials` of the last round. Gradients reach
        cost, distances, alpha, a, b and epsilon. With an empty side: zero plan, value and gradient.

    Raises:
        UserError: as `sinkhorn`; distances do not fit or are not finite; alpha is not between 0 and 1.

    Example:
        >>> line = torch.tensor([[[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]])  # at 0, 1 and 3
        >>> fused_gromov(torch.zeros(1, 3, 3), line, line.flip(1, 2), 0.1, 1.0).plan.round(decimals=3)
        tensor([[[0.0000, 0.0000, 0.3330],
                 [0.0000, 0.3330, 0.0000],
                 [0.3330, 0.0000, 0.0000]]])
    """
    if gradient not in ("envelope", "last_step"):
        raise UserError(f"gradient: expected envelope or last_step, got {gradient!r}")
    if rounds < 1:
        raise UserError(f"rounds: expected at least 1, got {rounds}")
    with torch.autocast(cost.device.type, enabled=False):
        problems = clean(cost, epsilon, (a, b), (mask_a, mask_b), (None, None))
        share = _share(alpha, problems)
        square = _square("distance_a", distance_a, problems.a), _square("distance_b", distance_b, problems.b)
        solve = partial(_round, tolerance=tolerance, max_iterations=max_iterations)
        with torch.no_grad():
            plan = _plan(start, problems)
            if plan is None:
                plan = solve(problems, (1 - share) * problems.cost, None).plan
            plan, potentials, taken = _rounds(problems, square, share, plan, tolerance, rounds, solve)
        # The last round once more, with the gradient of what it is made of at the plan it began with.
        bend = share * _bend(plan, *square)
        found = solve(problems, (1 - share) * problems.cost + bend, potentials, gradient=gradient)
        # That cost counts the distances twice.
        solved = Transport(found.plan, found.value - (bend * plan).sum((1, 2)) / 2, found.error, taken)
        solved.potentials = found.potentials
        return solved


def _rounds(
    problems: Problems,
    square: tuple[Tensor, Tensor],
    share: Tensor,
    plan: Tensor,
    tolerance: float,
    rounds: int,
    solve: Callable[[Problems, Tensor, Tensor | None], Transport],
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan, potentials and how many rounds; a problem whose plan has come to rest is left alone."""
    potentials, taken = torch.zeros_like(problems.b), torch.zeros(len(plan), dtype=torch.long, device=plan.device)
    rows, begun = (problems.b > 0).any(1).nonzero()[:, 0], None
    for _ in range(rounds):
        some = problems.take(rows)
        linear = (1 - share[rows]) * some.cost + share[rows] * _bend(plan[rows], square[0][rows], square[1][rows])
        found = solve(some, linear, begun)
        moves = (found.plan - plan[rows]).abs().sum((1, 2)) > tolerance
        plan[rows], potentials[rows], taken[rows] = found.plan, found.potentials, taken[rows] + 1
        rows, begun = rows[moves], found.potentials[moves]
        if not len(rows):
            break
    return plan, potentials, taken


def _round(
    problems: Problems,
    linear: Tensor,
    start: Tensor | None,
    *,
    tolerance: float,
    max_iterations: int,
    gradient: Literal["envelope", "last_step"] = "envelope",
) -> Transport:
    return sinkhorn(
        linear, problems.epsilon, a=problems.a, b=problems.b, start=start,
        tolerance=tolerance, max_iterations=max_iterations, gradient=gradient,
    )  # fmt: skip


def _bend(plan: Tensor, distance_a: Tensor, distance_b: Tensor) -> Tensor:
    """The gradient of `sum_ijkl |A_ik - B_jl|^2 P_ij P_kl`: with the plan's marginals, that of an outer product."""
    rows, columns = plan.sum(2, keepdim=True), plan.sum(1, keepdim=True).mT
    both_a, both_b = (
        torch.bmm(d.square() + d.square().mT, mass) for d, mass in ((distance_a, rows), (distance_b, columns))
    )
    there, back = torch.bmm(distance_a, plan), torch.bmm(distance_a.mT, plan)
    return both_a + both_b.mT - 2 * (torch.bmm(there, distance_b.mT) + torch.bmm(back, distance_b))


def _plan(start: Tensor | None, problems: Problems) -> Tensor | None:
    if start is None:
        return None
    if start.shape != problems.cost.shape:
        raise UserError(f"start: expected a plan of shape {tuple(problems.cost.shape)}, got {tuple(start.shape)}")
    return torch.where(problems.real, start.to(problems.cost), 0.0)


def _square(name: str, distance: Tensor, mass: Tensor) -> Tensor:
    shape = (*mass.shape, mass.shape[1])
    if distance.shape != shape:
        raise UserError(f"{name}: expected shape {shape}, got {tuple(distance.shape)}")
    real = mass > 0
    distance = torch.where(real[:, :, None] & real[:, None, :], distance.to(mass), 0.0)
    if distance.device.type == "cpu" and not bool(distance.isfinite().all()):
        raise UserError(f"{name}: expected finite numbers wherever the mask is True, NaN or infinity came")
    return distance


def _share(alpha: Tensor | float, problems: Problems) -> Tensor:
    share = torch.as_tensor(alpha, dtype=problems.cost.dtype, device=problems.cost.device)
    if share.ndim > 1 or (share.ndim == 1 and len(share) not in (1, len(problems.cost))):
        raise UserError(f"alpha: expected a number or one a problem ({len(problems.cost)}), got {tuple(share.shape)}")
    known = not isinstance(alpha, Tensor) or alpha.device.type == "cpu"
    if known and not bool(((share >= 0) & (share <= 1)).all()):
        raise UserError(f"alpha: expected numbers between 0 and 1, got {alpha}")
    return share.expand(len(problems.cost))[:, None, None]
