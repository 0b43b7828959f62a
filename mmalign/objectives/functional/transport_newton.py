"""Newton's method on the potentials, for the transport problems that Sinkhorn's iterations are too slow for.

With the rows' potentials at their best the problem is a concave one in those of the columns: `m` unknowns, the gradient
what the columns lack, and the Hessian `P^T diag(1 / P 1) P - diag(P^T 1)` (Brauer et al. 2017, arXiv 1710.06635). Its
third derivative is bounded by its second times how much the step differs from column to column, so that a step
shortened by `log(1 + r) / r` always gains, however far the optimum is (Sun and Tran-Dinh 2017, arXiv 1703.04599); and
near the optimum every step doubles the digits.
"""

import torch
from torch import Tensor

from mmalign.objectives.functional.transport_problems import Problems

# Epsilon begins where the scores span this much, and goes down by this factor whenever a problem is loosely solved: the
# error is not above this share of the mass. Where mass may be missed, the little that is missed says where the
# potentials are.
SPAN, FACTOR = 10.0, 0.5
LOOSE, LOOSE_INEXACT = 0.1, 0.01
# Added to the diagonal, as a share of it: columns that hardly know of each other do not tear the step apart.
_RIDGE = 1e-9


def descend(problems: Problems, start: Tensor | None, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Column potentials in units of epsilon `(batch, columns)` and iterations `(batch,)`, in float64.

    Args:
        problems: In float64, no side empty.
        start: Column potentials to begin with; where they are no better than nothing they are dropped.
        tolerance: On the error at the wanted epsilon.
        iterations: Where to stop in any case.
    """
    y, taken = torch.zeros_like(problems.b), torch.zeros(len(problems.b), dtype=torch.long, device=problems.b.device)
    # The system has an unknown a column: the smaller side becomes the columns.
    more = (problems.b > 0).sum(1) > (problems.a > 0).sum(1)
    for rows, turn in (((~more).nonzero()[:, 0], False), (more.nonzero()[:, 0], True)):
        if not len(rows):
            continue
        some, begun = problems.take(rows), None if start is None else start[rows]
        if turn:
            begun = None if begun is None else some.rows_from(begun)
            x, taken[rows] = _descend(some.turned(), begun, tolerance, iterations)
            y[rows] = some.columns_from(x)
        else:
            y[rows], taken[rows] = _descend(some, begun, tolerance, iterations)
    return y, taken


def _descend(problems: Problems, start: Tensor | None, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    y = torch.zeros_like(problems.b) if start is None else start
    result, taken = torch.empty_like(y), torch.zeros(len(y), dtype=torch.long, device=y.device)
    wide, y = _begin(problems, y, known=start is not None)
    left, open_ = torch.arange(len(y), device=y.device), torch.ones_like(taken, dtype=torch.bool)
    for done in range(iterations + 1):
        here = problems.at(wide) if bool((wide > 1).any()) else problems
        plan, lacks = _columns(here, y / wide[:, None])
        error = lacks.abs().sum(1)
        ends = open_ & ((wide == 1) & (error <= tolerance) if done < iterations else open_)
        if bool(ends.any()):
            result[left[ends]], taken[left[ends]] = y[ends], done
            open_ = open_ & ~ends
            if not bool(open_.any()):
                break
        y = y + wide[:, None] * _step(here, plan, lacks, y / wide[:, None])
        wide = torch.where(error <= _loose(problems), (wide * FACTOR).clamp(min=1.0), wide)
        if 2 * int(open_.sum()) <= len(open_):
            problems, y, wide, left, open_ = problems.take(open_), y[open_], wide[open_], left[open_], open_[open_]
    return result, taken


def _begin(problems: Problems, y: Tensor, *, known: bool) -> tuple[Tensor, Tensor]:
    """How many times too large epsilon is at first, and the potentials there."""
    widest = (problems.span / SPAN).clamp(min=1.0)
    if not known:
        return widest, y
    # A start is taken up at the smallest epsilon at which it is loosely right.
    wide = torch.ones_like(widest)
    while True:
        error = _columns(problems.at(wide), y / wide[:, None])[1].abs().sum(1)
        wrong = ~(error <= _loose(problems))  # not a number is wrong too
        if not bool((climbs := wrong & (wide < widest)).any()):
            return wide, torch.where(wrong[:, None], 0.0, y)
        wide = torch.where(climbs, torch.minimum(wide / FACTOR, widest), wide)


def _loose(problems: Problems) -> Tensor:
    return (LOOSE if problems.exact else LOOSE_INEXACT) * problems.b.sum(1)


def _columns(problems: Problems, y: Tensor) -> tuple[Tensor, Tensor]:
    """The plan with the rows at their best, and what its columns lack."""
    plan = problems.fit(y)[1]
    return plan, problems.wanted(y) - plan.sum(1)


def _step(problems: Problems, plan: Tensor, lacks: Tensor, y: Tensor) -> Tensor:
    real, mass = problems.b > 0, problems.b.sum(1, keepdim=True)
    columns, rows = plan.sum(1), plan.sum(2) * (1 + problems.give_a)
    system = -torch.bmm((plan / rows.clamp(min=1e-300)[:, :, None]).mT, plan)
    slope = columns + problems.give_b * problems.wanted(y) + _RIDGE * torch.maximum(columns, problems.b)
    system.diagonal(dim1=1, dim2=2).add_(torch.where(real, slope, 1.0))
    if problems.exact:  # a constant added to all changes nothing: the system is singular there
        system += problems.b[:, :, None] * (problems.b / mass)[:, None, :]
    step = torch.cholesky_solve(lacks[:, :, None], torch.linalg.cholesky_ex(system)[0])[:, :, 0]
    top, bottom = torch.where(real, step, -torch.inf).amax(1), torch.where(real, step, torch.inf).amin(1)
    reach = top - bottom
    if not problems.exact:
        give = problems.give_a[:, 0]
        reach = reach + torch.maximum(3 * give / (1 + give), problems.give_b[:, 0]) * step.abs().amax(1)
    return step * (torch.log1p(reach) / reach.clamp(min=1e-300)).clamp(max=1.0)[:, None]
