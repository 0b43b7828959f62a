"""Partial entropic optimal transport: only a given amount of mass is transported."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmalign.errors import UserError
from mmalign.objectives.functional.transport.gradients import Gradient
from mmalign.objectives.functional.transport.problem import Problems, clean, per_problem, starting
from mmalign.objectives.functional.transport.sinkhorn import Transport, solve_problems


def partial_sinkhorn(
    cost: Tensor,
    epsilon: Tensor | float,
    mass: Tensor | float,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    start: Tensor | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 200,
    gradient: Gradient = "implicit",
) -> Transport:
    """Partial entropic optimal transport: move the amount `mass` from `a` to `b`; the rest stays, at no cost.

    Minimises over plans `P >= 0`

        <C, P> + epsilon KL(Q | q)   with  P 1 <= a,  P^T 1 <= b,  sum P = mass

    where `Q` is `P` with an additional column for the unmoved mass of the rows and an additional row for the unfilled
    mass of the columns, and `q` the product of its marginals (both without the corner): partial transport by dummy
    points (Caffarelli and McCann 2010; Chapel et al. 2020, arXiv 2002.08276), solved by `sinkhorn`. A constant added to
    the cost does not change the plan. If `mass` is all of `a` and all of `b`, it is `sinkhorn`.

    Args:
        cost: `(batch, n, m)`.
        epsilon: Entropic regularisation, in units of the cost: a number, or one per problem `(batch,)`.
        mass: Transported mass, in units of `a` and `b` (by default a fraction): a number or `(batch,)`, above 0 and at
            most the total mass of the rows and of the columns.
        a: Mass of the rows, `(batch, n)`; default: 1, uniform over the real ones.
        b: Mass of the columns, `(batch, m)`; its sum may differ from that of `a`.
        mask_a: `(batch, n)`, True = real. Padding is never read.
        mask_b: `(batch, m)`.
        start: Initial potentials, `(batch, m)`: the `potentials` of an earlier solve, in units of the cost.
        tolerance: L1 error of the column marginals, the unmoved mass included, at which a problem is converged.
        max_iterations: Maximum number of iterations; `error` is the error reached.
        gradient: Of the plan: `implicit`, `last_step`, `unrolled` or `envelope`, as in `sinkhorn`.

    Returns:
        As `sinkhorn`, with `P` without the unmoved mass, and potentials at which unmoved mass costs nothing. Gradients
        also reach `mass`. Without rows or columns: zero plan, value and gradient.

    Raises:
        UserError: as `sinkhorn`, or (on the CPU) `mass` is above that of the rows or columns.

    Example:
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.5]]])
        >>> partial_sinkhorn(cost, 0.02, 0.25).plan.round(decimals=3)
        tensor([[[0.2500, 0.0000],
                 [0.0000, 0.0000]]])
    """
    with torch.autocast(cost.device.type, enabled=False):
        real = clean(cost, epsilon, (a, b), (mask_a, mask_b), (None, None))
        begun = starting(start, real)
        amount = _amount(mass, real)
        # The dummies' cost is the middle of the real costs, so that they do not widen the range of the scores.
        middle = (real.low + real.high) / 2
        whole = _with_dummies(real, amount, middle)
        begun = None if begun is None else pad(torch.where(real.b > 0, begun - middle[:, None], 0.0), (0, 1))
        solution = solve_problems(whole, begun, tolerance, max_iterations, gradient)
        corner = whole.epsilon * whole.a[:, -1] * whole.b[:, -1]
        solved = Transport(
            solution.plan[:, :-1, :-1], solution.value + middle * amount - corner, solution.error, solution.iterations
        )
        staying = solution.potentials[:, -1:] - middle[:, None]
        solved.potentials = torch.where(real.b > 0, solution.potentials[:, :-1] - staying, 0.0)
        return solved


def _amount(mass: Tensor | float, real: Problems) -> Tensor:
    amount, totals = per_problem("mass", mass, real.cost), (real.a.sum(1), real.b.sum(1))
    most = torch.minimum(*totals)
    if real.cost.device.type == "cpu":
        above = (amount > 1.0001 * most) & (most > 0)
        if bool(above.any()):
            row = int(above.nonzero()[0])
            came = f"{float(amount[row]):.4g} of {float(totals[0][row]):.4g} and {float(totals[1][row]):.4g}"
            raise UserError(f"mass: expected at most that of the rows and the columns, got {came} in problem {row}")
    return torch.minimum(amount, most)


def _with_dummies(real: Problems, amount: Tensor, middle: Tensor) -> Problems:
    """Add a dummy row and a dummy column for the unmoved mass; nothing moves from dummy to dummy."""
    cost = pad(real.cost - middle[:, None, None], (0, 1, 0, 1))
    never = real.epsilon.detach() * (4 * real.span + 1e4)
    corner = cost.new_zeros(cost.shape[1:])
    corner[-1, -1] = 1.0
    a = torch.cat([real.a, (real.b.sum(1) - amount).clamp(min=0.0)[:, None]], 1)
    b = torch.cat([real.b, (real.a.sum(1) - amount).clamp(min=0.0)[:, None]], 1)
    span = (real.high - real.low) / 2
    return Problems(cost + corner * never[:, None, None], real.epsilon, a, b, None, None, -span, span)
