"""Entropic optimal transport of many small problems at once (Sinkhorn), with gradients at the optimum."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.transport.gradients import Gradient as Gradient
from mmalign.objectives.functional.transport.gradients import at_optimum, value_of
from mmalign.objectives.functional.transport.problem import Problems, clean, starting
from mmalign.objectives.functional.transport.solver import REACH, solve, unroll


class TransportPlan(NamedTuple):
    """Transport plans of a batch of problems.

    Attributes:
        plan: Mass that row i sends to column j, `(batch, rows, columns)`; zero at padding.
        value: Regularised cost of the plan, `(batch,)`.
        error: L1 error of the plan's marginals, `(batch,)`, detached.
        iterations: Number of iterations of each problem, `(batch,)` integers.
    """

    plan: Tensor
    value: Tensor
    error: Tensor
    iterations: Tensor


class Transport(TransportPlan):
    """A `TransportPlan` with the potentials from which a later solve can start.

    Attributes:
        potentials: Potentials of the columns, `(batch, columns)`, in units of the cost, detached; up to a constant
            where both marginals are exact. Not a fifth field: `plan, value, error, iterations = sinkhorn(...)` holds.
    """

    potentials: Tensor


def sinkhorn(
    cost: Tensor,
    epsilon: Tensor | float,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    rho_a: Tensor | float | None = None,
    rho_b: Tensor | float | None = None,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 200,
    gradient: Gradient = "implicit",
) -> Transport:
    """Entropic optimal transport from mass `a` to mass `b`, for each problem of a batch.

    Minimises over plans `P >= 0`

        <C, P> + epsilon KL(P | a b^T)   with  P 1 = a,  P^T 1 = b        KL(p | q) = sum p log(p / q) - p + q

    (Cuturi 2013, arXiv 1306.0895; relative to `a b^T`, so that splitting a row in two changes nothing). A `rho`
    replaces that marginal's constraint by the penalty `rho KL(marginal | a)` (Chizat et al. 2018, arXiv 1607.05816).
    The solution

        P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)
        f_i  = - epsilon rho_a / (rho_a + epsilon) LSE_j(log b_j + (g_j - C_ij) / epsilon)      and likewise g

    is computed by alternating, overrelaxed multiplications (Thibault et al. 2017, arXiv 1711.01851) where the costs
    span at most 60 epsilon. Beyond that, and after 50 iterations without convergence, by damped Newton steps on `g` in
    float64 with epsilon scaling by halves (Brauer et al. 2017, arXiv 1710.06635): each solves a system of the smaller
    side.
    Rows are updated last, so theirs are exact and `error` is that of the columns:
    `sum_j |sum_i P_ij - b_j exp(-g_j / rho_b)|`.

    Args:
        cost: `(batch, n, m)`.
        epsilon: Entropic regularisation, in units of the cost: a number, or one per problem `(batch,)`.
        a: Mass of the rows, `(batch, n)`; default: 1, uniform over the real ones. A row without mass is padding.
        b: Mass of the columns, `(batch, m)`.
        mask_a: `(batch, n)`, True = real. Padding is never read, NaN included.
        mask_b: `(batch, m)`.
        rho_a: Cost per unit of missing or surplus row mass: a number or `(batch,)`; None: exact row marginals. With
            too low a rho nothing moves.
        rho_b: The same for the columns.
        start: Initial potentials, `(batch, m)`: the `potentials` of an earlier solve, in units of the cost. A problem
            that they solve takes 0 iterations; if they are far off they are dropped.
        tolerance: Error at which a problem is converged; checked every 5 iterations, or after every Newton step.
        max_iterations: Maximum number of iterations; `error` is the error reached.
        gradient: Of the plan. `implicit`: that of the optimum, by a linear system of m unknowns. `last_step`: as if
            all but the last iteration were constant; biased, cheap. `unrolled`: through all of Sinkhorn's iterations in
            the log domain, Newton only for larger epsilon; memory grows with them. `envelope`: none, for when only the
            value is used. The value's gradient is that of the optimum in all modes but `unrolled` (dvalue/dcost = P,
            dvalue/da = f up to a constant).

    Returns:
        Plan, value, error and iterations, and `.potentials`. In float32 (float64 where the cost is), under autocast
        too; beyond 60 epsilon computed in float64. Gradients reach cost, a, b, epsilon and rho. Without rows or
        columns: zero plan, value and gradient.

    Raises:
        UserError: shapes do not fit, epsilon or rho is not above 0, or (on the CPU) a real cost is not finite, a mass
            is negative or not finite, a start is not finite, or `a` and `b`, both exact, differ in mass by
            more than 1 %.

    Example:
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> sinkhorn(cost, 0.05).plan.round(decimals=4)
        tensor([[[0.5000, 0.0000],
                 [0.0000, 0.5000]]])
        >>> sinkhorn(cost, 0.05, mask_b=torch.tensor([[True, False]])).plan.round(decimals=4)
        tensor([[[0.5000, 0.0000],
                 [0.5000, 0.0000]]])
    """
    with torch.autocast(cost.device.type, enabled=False):
        problems = clean(cost, epsilon, (a, b), (mask_a, mask_b), (rho_a, rho_b))
        if problems.exact and problems.padded:
            _same_mass(problems)
        return solve_problems(problems, starting(start, problems), tolerance, max_iterations, gradient)


def solve_problems(
    problems: Problems, start: Tensor | None, tolerance: float, max_iterations: int, gradient: Gradient
) -> Transport:
    """Plans of cleaned problems; far ones are solved in float64, because float32 cannot hold their potentials."""
    if gradient not in ("implicit", "envelope", "last_step", "unrolled"):
        raise UserError(f"gradient: expected implicit, envelope, last_step or unrolled, got {gradient!r}")
    if max_iterations < 1:
        raise UserError(f"max_iterations: expected at least 1, got {max_iterations}")
    far = problems.span > REACH
    if not bool(far.any()):
        solution = _alike(problems, start, tolerance, max_iterations, gradient, far=False)
    else:
        parts = [(False, (~far).nonzero()[:, 0]), (True, far.nonzero()[:, 0])]
        pieces = []
        for in_double, rows in parts:
            some = problems.take(rows).double() if in_double else problems.take(rows)
            begun = None if start is None else start[rows]
            pieces.append(_alike(some, begun, tolerance, max_iterations, gradient, far=in_double))
        order = torch.cat([rows for _, rows in parts]).argsort()
        solution = [torch.cat(piece)[order] for piece in zip(*pieces, strict=True)]
    *fields, iterations, potentials = solution
    plan, value, error, potentials = (tensor.to(problems.cost.dtype) for tensor in (*fields, potentials))
    solved = Transport(plan, value, error, iterations)
    solved.potentials = potentials
    return solved


def _alike(
    problems: Problems, start: Tensor | None, tolerance: float, max_iterations: int, gradient: Gradient, *, far: bool
) -> list[Tensor]:
    with torch.no_grad():
        y = None if start is None else start / problems.epsilon[:, None]
    if gradient == "unrolled":
        y, iterations = unroll(problems, y, tolerance, max_iterations, far=far)
        x = problems.rows_from(y)
        plan = problems.plan(x, y)
        value = value_of(problems, x, y, plan.sum((1, 2)))
    else:
        with torch.no_grad():
            x, y, iterations, plan = solve(problems, y, tolerance, max_iterations, far=far)
        plan, value = at_optimum(problems, x, y, plan, gradient)
    with torch.no_grad():
        return [plan, value, problems.error(plan, y), iterations, y * problems.epsilon[:, None]]


def _same_mass(problems: Problems) -> None:
    if problems.cost.device.type != "cpu":
        return
    totals = problems.a.detach().sum(1), problems.b.detach().sum(1)
    apart = (totals[0] - totals[1]).abs() > 0.01 * totals[0]
    if bool(apart.any()):
        row = int(apart.nonzero()[0])
        came = f"{float(totals[0][row]):.4g} and {float(totals[1][row]):.4g} in problem {row}"
        raise UserError(f"a and b: expected the same mass, got {came}; scale them, or give a rho")
