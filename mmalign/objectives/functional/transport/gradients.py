"""Gradients of a transport plan and its value by implicit differentiation at the optimum."""

from typing import Any, Literal

import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional.transport.problem import Problems

Gradient = Literal["implicit", "envelope", "last_step", "unrolled"]

# Added to the diagonal of the implicit system, solved in float64: at small epsilon the plan is nearly block-diagonal,
# and the relative potentials of the blocks are nearly undetermined.
_RIDGE = 1e-9


def value_of(problems: Problems, x: Tensor, y: Tensor, moved: Tensor) -> Tensor:
    """The dual objective: epsilon times `<a, phi(x)> + <b, phi(y)> - sum P + sum a sum b`, `phi(x) = (1 - e^-sx) / s`.

    Plus the constant that was subtracted from the costs.

    Args:
        problems: The problems of the potentials.
        x: Potentials of the rows.
        y: Potentials of the columns.
        moved: Transported mass, `sum P`, `(batch,)`.
    """

    def side(mass: Tensor, potential: Tensor, give: Tensor | None) -> Tensor:
        return (mass * (potential if give is None else -torch.expm1(-give * potential) / give)).sum(1)

    rows = side(problems.a, x, None if problems.rho_a is None else problems.give_a)
    columns = side(problems.b, y, None if problems.rho_b is None else problems.give_b)
    mass = problems.a.sum(1)
    return problems.epsilon * (rows + columns - moved + mass * problems.b.sum(1)) + problems.middle * mass


def at_optimum(problems: Problems, x: Tensor, y: Tensor, plan: Tensor, gradient: Gradient) -> tuple[Tensor, Tensor]:
    """Plan and value with gradients, from potentials and a plan without."""
    moved = plan.sum((1, 2))
    if not torch.is_grad_enabled():
        return plan, value_of(problems, x, y, moved)
    # The value is stationary in the potentials, so they may be constants. The gradient of P is then P times that of
    # log P = (middle - C) / epsilon + log a + log b.
    log = (problems.middle * moved - (plan * problems.cost).sum((1, 2))) / problems.epsilon
    log = log + (plan.sum(2) * problems.log_a).sum(1) + (plan.sum(1) * problems.log_b).sum(1)
    value = _FirstOnly.apply(value_of(problems, x, y, moved + (log - log.detach())))
    if gradient == "envelope":
        return plan, value
    # The value of y, the gradient of one more iteration.
    again, fixed = problems.columns_from(problems.rows_from(y)), gradient == "implicit"
    y = _FixedPoint.apply(again, y, plan, problems) if fixed else y + (again - again.detach())
    return _FirstOnly.apply(problems.plan(problems.rows_from(y), y)), value


class _FixedPoint(torch.autograd.Function):
    """Fixed point `y = F(y, theta)`: returns y; backward multiplies the gradient by `(1 - dF/dy)^-T`."""

    @staticmethod
    def forward(ctx: Any, again: Tensor, y: Tensor, plan: Tensor, problems: Problems) -> Tensor:
        ctx.problems = problems
        ctx.save_for_backward(plan)
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (plan,) = ctx.saved_tensors
        with torch.autocast(grad.device.type, enabled=False), torch.no_grad():
            return _solve_transposed(ctx.problems, plan.double(), grad), None, None, None


def _solve_transposed(problems: Problems, plan: Tensor, grad: Tensor) -> Tensor:
    keep = 1 / ((1 + problems.give_a) * (1 + problems.give_b)).double()
    # dx_i/dy_j = - from_rows_ij / (1 + give_a), dy_j/dx_i = - from_columns_ij / (1 + give_b)
    from_rows = plan / plan.sum(2, keepdim=True).clamp(min=1e-300)
    from_columns = plan / plan.sum(1, keepdim=True).clamp(min=1e-300)
    step = torch.bmm(from_rows.mT, from_columns) * keep[:, :, None]
    system = torch.eye(plan.shape[2], dtype=plan.dtype, device=plan.device) * (1 + _RIDGE) - step
    if problems.exact:
        # A constant added to x and subtracted from y does not change the plan: the system is singular there.
        # Adding its left null vector times ones makes it regular without changing the rest.
        mass = problems.b.double()
        share = mass / mass.sum(1, keepdim=True).clamp(min=1e-300)
        system = system + share[:, :, None] * (mass > 0)[:, None, :]
    return torch.linalg.solve(system, grad.double()).to(grad.dtype)  # type: ignore[no-any-return]


class _FirstOnly(torch.autograd.Function):
    """Identity that raises in a second derivative, which would be wrong."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise UserError("sinkhorn has a second derivative only with gradient='unrolled'")
        return grad
