"""Newton's method on the potentials, for transport problems on which Sinkhorn's iterations converge too slowly.

With optimal row potentials the problem is concave in the column potentials: `m` unknowns, the gradient is the missing
column mass, and the Hessian is `P^T diag(1 / P 1) P - diag(P^T 1)` (Brauer et al. 2017, arXiv 1710.06635). The third
derivative is bounded by the second times the range of the step over the columns, so that a step damped by
`log(1 + r) / r` always increases the objective, at any distance from the optimum (Sun and Tran-Dinh 2017, arXiv
1703.04599); near the optimum convergence is quadratic.
"""

import torch
from torch import Tensor

from mmalign.objectives.functional.transport.problem import Problems

# Epsilon scaling: the initial epsilon gives scores of this range; epsilon is divided by this factor when a problem is
# loosely solved.
SPAN, FACTOR = 10.0, 0.5
# Loosely solved: the error is at most this fraction of the mass. With relaxed marginals the small missing mass
# determines the potentials.
LOOSE, LOOSE_INEXACT = 0.03, 0.01
# A problem that takes this many steps at one epsilon left the previous one too early and is on a plateau: its epsilon
# is multiplied by this factor and lowered again with a tighter tolerance. Below this error there is no plateau.
STUCK, BACK, TIGHTER, SETTLED = 20, 100.0, 0.1, 1e-6
# Added to the diagonal, as a fraction of it: keeps the step bounded when blocks of columns are nearly decoupled.
_RIDGE = 1e-9


def descend(problems: Problems, start: Tensor | None, tolerance: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Column potentials in units of epsilon `(batch, columns)` and iterations `(batch,)`, in float64.

    Args:
        problems: In float64, without empty rows or columns.
        start: Initial column potentials; dropped where they are no better than zeros.
        tolerance: Of the error at the final epsilon.
        iterations: Maximum number of iterations.
    """
    y, taken = torch.zeros_like(problems.b), torch.zeros(len(problems.b), dtype=torch.long, device=problems.b.device)
    # The system has one unknown per column: the smaller side becomes the columns.
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
    """Converged problems are left unchanged; the others return their best potentials at the final epsilon."""
    path = _Path(problems, start)
    result, taken = path.y.clone(), torch.zeros(len(path.y), dtype=torch.long, device=path.y.device)
    left, open_ = torch.arange(len(result), device=result.device), torch.ones_like(taken, dtype=torch.bool)
    least = torch.full_like(path.wide, torch.inf)
    for done in range(iterations + 1):
        error, there = path.look(), path.wide == 1
        better = open_ & torch.where(there, error < least, least.isinf())
        result[left[better]], taken[left[open_]] = path.y[better], done
        least = torch.where(better & there, error, least)
        open_ = open_ & ~(there & (error <= tolerance))
        if done == iterations or not bool(open_.any()):
            break
        path.go(tolerance)
        if 2 * int(open_.sum()) <= len(open_):
            path.take(open_)
            left, least, open_ = left[open_], least[open_], open_[open_]
    return result, taken


class _Path:
    """State of epsilon scaling of each problem.

    `y` is in units of the final epsilon; `wide` is the ratio of the current to the final epsilon.
    """

    def __init__(self, problems: Problems, start: Tensor | None) -> None:
        self.problems, self.mass = problems, problems.b.sum(1)
        self.widest = (problems.span / SPAN).clamp(min=1.0)
        self.loose = self.mass * (LOOSE if problems.exact else LOOSE_INEXACT)
        self.since = torch.zeros_like(self.mass, dtype=torch.long)
        self.wide, self.y = self.widest, torch.zeros_like(problems.b)
        if start is not None:
            self._take_up(start)

    def _take_up(self, start: Tensor) -> None:
        """Use the initial potentials at the smallest epsilon at which they solve the problem loosely, if any."""
        self.wide, self.y = torch.ones_like(self.widest), start
        while True:
            wrong = ~(self.look() <= self.loose)  # NaN counts as wrong
            if not bool((climbs := wrong & (self.wide < self.widest)).any()):
                break
            self.wide = torch.where(climbs, torch.minimum(self.wide / FACTOR, self.widest), self.wide)
        self.y = torch.where(wrong[:, None], 0.0, start)

    def take(self, rows: Tensor) -> None:
        self.problems = self.problems.take(rows)
        for name in ("mass", "widest", "loose", "since", "wide", "y"):
            setattr(self, name, getattr(self, name)[rows])

    def look(self) -> Tensor:
        """The error of each problem at its current epsilon."""
        self.here = self.problems.at(self.wide) if bool((self.wide > 1).any()) else self.problems
        self.plan = self.here.fit(self.y / self.wide[:, None])[1]
        self.lacks = self.here.wanted(self.y / self.wide[:, None]) - self.plan.sum(1)
        self.error = self.lacks.abs().sum(1)
        return self.error

    def go(self, tolerance: float) -> None:
        """One step, then lower or raise epsilon."""
        at = self.y / self.wide[:, None]
        step = newton_step(self.here, at, self.plan, self.lacks)
        if not self.problems.exact:
            # Mass too large by orders of magnitude: one Sinkhorn step corrects all columns.
            back = (self.here.wanted(at) / self.plan.sum(1)).log() / (1 + self.here.give_b)
            back = torch.where(self.problems.b > 0, back, 0.0)
            step = torch.where((self.error > self.mass)[:, None], back, step)
        self.y = self.y + self.wide[:, None] * step
        solved = self.error <= torch.where(self.wide == 1, tolerance, self.loose)
        self.since = torch.where(solved, 0, self.since + 1)
        stuck = (self.since >= STUCK) & (self.error > SETTLED * self.mass)
        widened = torch.where(solved, self.wide * FACTOR, torch.where(stuck, self.wide * BACK, self.wide))
        self.wide = torch.minimum(widened, self.widest).clamp(min=1.0)
        self.loose = torch.where(stuck, self.loose * TIGHTER, self.loose)
        self.since = torch.where(stuck, 0, self.since)


def newton_step(problems: Problems, y: Tensor, plan: Tensor, lacks: Tensor) -> Tensor:
    """Newton step of the column potentials, from the plan with optimal row potentials and its missing column mass."""
    real, mass = problems.b > 0, problems.b.sum(1, keepdim=True)
    columns, rows = plan.sum(1), plan.sum(2) * (1 + problems.give_a)
    system = -torch.bmm((plan / rows.clamp(min=1e-300)[:, :, None]).mT, plan)
    slope = columns + problems.give_b * problems.wanted(y) + _RIDGE * torch.maximum(columns, problems.b)
    system.diagonal(dim1=1, dim2=2).add_(torch.where(real, slope, 1.0))
    if problems.exact:  # a constant added to all changes nothing: singular direction
        system += problems.b[:, :, None] * (problems.b / mass)[:, None, :]
    step = torch.cholesky_solve(lacks[:, :, None], torch.linalg.cholesky_ex(system)[0])[:, :, 0]
    top, bottom = torch.where(real, step, -torch.inf).amax(1), torch.where(real, step, torch.inf).amin(1)
    reach = top - bottom
    if not problems.exact:
        give = problems.give_a[:, 0]
        reach = reach + torch.maximum(3 * give / (1 + give), problems.give_b[:, 0]) * step.abs().amax(1)
    return step * (torch.log1p(reach) / reach.clamp(min=1e-300)).clamp(max=1.0)[:, None]
