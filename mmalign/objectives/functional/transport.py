"""Entropic optimal transport of many small problems at once (Sinkhorn), with gradients at the optimum."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.potentials import NOTHING, Problems, solve, unroll
from mmalign.types import TransportPlan

Gradient = Literal["implicit", "envelope", "last_step", "unrolled"]

# Added to the diagonal of the implicit system, solved in float64: at small epsilon the plan falls apart into blocks
# that hardly know of each other, and their relative potentials hardly matter.
_RIDGE = 1e-9


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
    tolerance: float = 1e-3,
    max_iterations: int = 200,
    gradient: Gradient = "implicit",
) -> TransportPlan:
    """The cheapest way to move the mass `a` onto `b`, smoothed by entropy; each problem of the batch by itself.

    Minimises over plans `P >= 0`

        <C, P> + epsilon KL(P | a b^T)   with  P 1 = a,  P^T 1 = b        KL(p | q) = sum p log(p / q) - p + q

    (Cuturi 2013, arXiv 1306.0895; against `a b^T`, so that splitting a row in two changes nothing). A `rho` replaces
    that side's constraint by the penalty `rho KL(marginal | a)` (Chizat et al. 2018, arXiv 1607.05816). The solution is

        P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)
        f_i  = - epsilon rho_a / (rho_a + epsilon) LSE_j(log b_j + (g_j - C_ij) / epsilon)      and so g

    by turns, in multiplications where the kernel's exponents lie within reach and in the log domain elsewhere, there
    with epsilon coming down to its value in steps. Rows are updated last, so theirs are exact and `error` is that of
    the columns: `sum_j |sum_i P_ij - b_j exp(-g_j / rho_b)|`.

    Args:
        cost: `(batch, n, m)`.
        epsilon: Weight of the entropy, in units of the cost: a number, or one a problem `(batch,)`.
        a: Mass of the rows, `(batch, n)`; default: 1, spread evenly over the real ones. A row of no mass is as padded.
        b: Mass of the columns, `(batch, m)`.
        mask_a: `(batch, n)`, True = real. What stands in padded places is never read, NaN neither.
        mask_b: `(batch, m)`.
        rho_a: What a unit of missing or surplus mass costs on the side of the rows: a number or `(batch,)`; None: the
            rows must be exact. Too low a rho and nothing moves.
        rho_b: The same for the columns.
        tolerance: A problem is finished and left alone when its error is not above this; looked at every 5 iterations.
        max_iterations: Where to stop in any case; the error then says how far it came.
        gradient: Of the plan. `implicit`: that of the optimum, by a linear system of m unknowns. `last_step`: as if
            all but the last iteration were constant; biased, cheap. `unrolled`: through all iterations, in the log
            domain; memory grows with them. `envelope`: none, for when only the value is used. The value's gradient
            is that of the optimum in all modes but `unrolled` (dvalue/dcost = P, dvalue/da = f up to a constant).

    Returns:
        Plan, value, error and iterations. In float32 (float64 where the cost is), under autocast too. Gradients reach
        cost, a, b, epsilon and rho. With an empty side: zero plan, value and gradient.

    Raises:
        UserError: shapes do not fit, epsilon or rho is not above 0, or (on the CPU) a real cost is not finite, a mass
            is negative or not finite, or two sides that must both be exact differ in mass by more than 1 %.

    Example:
        >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> sinkhorn(cost, 0.05).plan.round(decimals=4)
        tensor([[[0.5000, 0.0000],
                 [0.0000, 0.5000]]])
        >>> sinkhorn(cost, 0.05, mask_b=torch.tensor([[True, False]])).plan.round(decimals=4)
        tensor([[[0.5000, 0.0000],
                 [0.5000, 0.0000]]])
    """
    if gradient not in ("implicit", "envelope", "last_step", "unrolled"):
        raise UserError(f"gradient: expected implicit, envelope, last_step or unrolled, got {gradient!r}")
    if max_iterations < 1:
        raise UserError(f"max_iterations: expected at least 1, got {max_iterations}")
    with torch.autocast(cost.device.type, enabled=False):
        problems, scale = _problems(cost, epsilon, (a, b), (mask_a, mask_b), (rho_a, rho_b))
        if gradient == "unrolled":
            y, iterations = unroll(problems, tolerance, max_iterations)
            x = problems.rows_from(y)
            plan, value = problems.plan(x, y), _value(problems, x, y) * scale
        else:
            with torch.no_grad():
                y, iterations = solve(problems, tolerance, max_iterations)
                x = problems.rows_from(y)
            # The value is stationary in the potentials: they may be constants.
            value = _FirstOnly.apply(_value(problems, x, y) * scale)
            plan = _plan(problems, x, y, gradient)
        with torch.no_grad():
            error = problems.error(plan, y)
    return TransportPlan(plan, value, error, iterations)


def _plan(problems: Problems, x: Tensor, y: Tensor, gradient: Gradient) -> Tensor:
    if gradient == "envelope" or not torch.is_grad_enabled():
        with torch.no_grad():
            return problems.plan(x, y)
    # The value of y, the gradient of one more iteration.
    again = problems.columns_from(problems.rows_from(y))
    y = _FixedPoint.apply(again, y, problems, x) if gradient == "implicit" else y + (again - again.detach())
    return _FirstOnly.apply(problems.plan(problems.rows_from(y), y))  # type: ignore[no-any-return]


class _FixedPoint(torch.autograd.Function):
    """`y = F(y, theta)`: gives y, and makes of the gradient that of the fixed point, `(1 - dF/dy)^-T grad`."""

    @staticmethod
    def forward(ctx: Any, again: Tensor, y: Tensor, problems: Problems, x: Tensor) -> Tensor:
        ctx.problems, ctx.x = problems, x
        ctx.save_for_backward(y)
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False), torch.no_grad():
            return _solve_transposed(ctx.problems, ctx.x, y, grad), None, None, None


def _solve_transposed(problems: Problems, x: Tensor, y: Tensor, grad: Tensor) -> Tensor:
    scores, keep = problems.scores.double(), 1 / ((1 + problems.give_a) * (1 + problems.give_b)).double()
    # dx_i/dy_j = - from_rows_ij / (1 + give_a), dy_j/dx_i = - from_columns_ij / (1 + give_b)
    from_rows = (scores + (problems.log_b + y).double()[:, None, :]).softmax(2)
    from_columns = (scores + (problems.log_a + x).double()[:, :, None]).softmax(1)
    real = (problems.b > 0).double()
    step = torch.bmm(from_rows.mT, from_columns) * keep[:, :, None] * real[:, :, None] * real[:, None, :]
    # Where both sides are exact, a constant may move from y to x: the plan does not see it, and the system is singular
    # in that one direction. Its left null vector times ones fills it in without changing the rest.
    mass = problems.b.double()
    lost = (mass / mass.sum(1, keepdim=True).clamp(min=1e-300))[:, :, None] * real[:, None, :]
    system = torch.eye(len(mass.T), dtype=torch.float64, device=mass.device) * (1 + _RIDGE) - step
    system = system + torch.where((keep == 1)[:, :, None], lost, 0.0)
    return torch.linalg.solve(system, grad.double()).to(grad.dtype)  # type: ignore[no-any-return]


class _FirstOnly(torch.autograd.Function):
    """Nothing, but a second derivative is refused rather than wrong."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise UserError("sinkhorn has a second derivative only with gradient='unrolled'")
        return grad


def _value(problems: Problems, x: Tensor, y: Tensor) -> Tensor:
    """The dual objective / epsilon: `<a, phi(x)> + <b, phi(y)> - sum P + sum a sum b`, `phi(x) = (1 - e^-sx) / s`."""

    def side(mass: Tensor, potential: Tensor, give: Tensor) -> Tensor:
        # Both branches must stay finite: the gradient of the one not taken is multiplied by zero.
        some, inside = torch.where(give > 0, give, 1.0), torch.where(give > 0, potential, 0.0)
        return (mass * torch.where(give > 0, -torch.expm1(-some * inside) / some, potential)).sum(1)

    moved = problems.plan(x, y).sum((1, 2)) - problems.a.sum(1) * problems.b.sum(1)
    return side(problems.a, x, problems.give_a) + side(problems.b, y, problems.give_b) - moved


def _problems(
    cost: Tensor,
    epsilon: Tensor | float,
    masses: tuple[Tensor | None, Tensor | None],
    masks: tuple[Tensor | None, Tensor | None],
    rhos: tuple[Tensor | float | None, Tensor | float | None],
) -> tuple[Problems, Tensor]:
    if cost.ndim != 3:
        raise UserError(f"cost: expected (batch, rows, columns), got shape {tuple(cost.shape)}")
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
    shapes = cost.shape[:2], (cost.shape[0], cost.shape[2])
    sides = [_side(name, cost, shape, *of) for name, shape, *of in zip("ab", shapes, masses, masks, strict=True)]
    scale = _positive("epsilon", epsilon, cost)
    gives = [
        cost.new_zeros(len(cost), 1) if rho is None else (scale / _positive(name, rho, cost))[:, None]
        for name, rho in zip(("rho_a", "rho_b"), rhos, strict=True)
    ]
    # With nothing on one side nothing can move: the other is emptied too.
    both = (sides[0] > 0).any(1, keepdim=True) & (sides[1] > 0).any(1, keepdim=True)
    a, b = (torch.where(both & (side > 0), side, 0.0) for side in sides)
    real = (a > 0)[:, :, None] & (b > 0)[:, None, :]
    cost = torch.where(real, cost, 0.0)
    if cost.device.type == "cpu":
        if not bool(cost.isfinite().all()):
            raise UserError("cost: expected finite numbers wherever both masks are True, NaN or infinity came")
        exact = ((gives[0] == 0) & (gives[1] == 0))[:, 0]
        totals = a.detach().sum(1), b.detach().sum(1)
        apart = (totals[0] - totals[1]).abs() > 0.01 * totals[0]
        if bool((exact & apart).any()):
            row = int((exact & apart).nonzero()[0])
            came = f"{float(totals[0][row]):.4g} and {float(totals[1][row]):.4g} in problem {row}"
            raise UserError(f"a and b: expected the same mass on both sides, got {came}; scale them, or give a rho")
    logs = [torch.where(side > 0, torch.where(side > 0, side, 1.0).log(), NOTHING) for side in (a, b)]
    return Problems(-cost / scale[:, None, None], a, b, logs[0], logs[1], gives[0], gives[1]), scale


def _side(name: str, cost: Tensor, shape: tuple[int, ...], mass: Tensor | None, mask: Tensor | None) -> Tensor:
    for what, given in ((name, mass), (f"mask_{name}", mask)):
        if given is not None and given.shape != shape:
            raise UserError(f"{what}: expected shape {tuple(shape)}, got {tuple(given.shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise UserError(f"mask_{name}: expected True and False, got {mask.dtype}")
    if mass is None:
        real = cost.new_ones(shape) if mask is None else mask.to(cost.dtype)
        return real / real.sum(1, keepdim=True).clamp(min=1)
    mass = mass.to(cost.dtype) if mask is None else torch.where(mask, mass.to(cost.dtype), 0.0)
    if mass.device.type == "cpu" and not bool(((mass >= 0) & mass.isfinite()).all()):
        raise UserError(f"{name}: expected masses of at least 0, got a negative one, NaN or infinity")
    return mass


def _positive(name: str, given: Tensor | float, cost: Tensor) -> Tensor:
    value = torch.as_tensor(given, dtype=cost.dtype, device=cost.device)
    if value.ndim > 1 or (value.ndim == 1 and len(value) not in (1, len(cost))):
        raise UserError(f"{name}: expected a number or one a problem ({len(cost)}), got shape {tuple(value.shape)}")
    known = not isinstance(given, Tensor) or given.device.type == "cpu"
    if known and not bool(((value > 0) & (value < math.inf)).all()):
        raise UserError(f"{name}: expected a finite number above 0, got {given}")
    return value.expand(len(cost))
