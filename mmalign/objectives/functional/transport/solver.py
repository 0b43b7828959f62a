"""Solver of a batch of transport problems: Sinkhorn's iterations, then Newton's method.

All values are in units of epsilon, see `Problems`. The method chosen for a problem depends on that problem only.
"""

import math

import torch
from torch import Tensor

from mmalign.objectives.functional.transport.newton import descend
from mmalign.objectives.functional.transport.problem import Problems

# Sinkhorn iterations between two evaluations of the error.
EVERY = 5
# Exponentials of scores within this range can be multiplied instead of added in the log domain (e^88 is the largest
# in float32). Problems beyond it are far and solved by Newton's method.
REACH = 60.0
# Number of Sinkhorn iterations after which Newton's method takes over.
PATIENCE = 50


def solve(
    problems: Problems, start: Tensor | None, tolerance: float, max_iterations: int, *, far: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row potentials `(batch, rows)`, column potentials `(batch, columns)`, iterations `(batch,)` and the plan.

    Args:
        problems: Either all far, in float64, or none far.
        start: Initial column potentials; a problem that they solve is left unchanged.
        tolerance: Of the error.
        max_iterations: Maximum number of iterations.
        far: Whether the problems are far.
    """
    y = torch.zeros_like(problems.b) if start is None else start.clone()
    iterations = torch.zeros(len(y), dtype=torch.long, device=y.device)
    open_ = (problems.b > 0).any(1)
    lost = torch.zeros_like(open_)
    if not far and start is None and bool(open_.all()):
        x, y, iterations, plan, open_, lost = _multiply(problems, y, tolerance, max_iterations)
    else:
        x, plan = problems.fit(y) if problems.cost.numel() else (torch.zeros_like(problems.a), problems.cost.detach())
        if start is not None:
            open_ &= ~(problems.error(plan, y) <= tolerance)
        if not far:
            rows = open_.nonzero()[:, 0]
            solution = _multiply(problems.take(rows), y[rows], tolerance, max_iterations)
            for known, new in zip((x, y, iterations, plan, open_, lost), solution, strict=True):
                known[rows] = new
    start = start if far else y
    # Lost problems have no potentials to report or to start from, so Newton's method gets all their iterations.
    for waiting, left in ((open_ & ~lost, max_iterations - (0 if far else PATIENCE)), (lost, max_iterations)):
        rows = waiting.nonzero()[:, 0] if left > 0 else waiting.new_empty(0, dtype=torch.long)
        if len(rows):
            some = problems.take(rows)
            begun = None if start is None else start[rows].double()
            found_y, more = descend(some.double(), begun, tolerance, left)
            y[rows], iterations[rows] = found_y.to(y.dtype), iterations[rows] + more
            x[rows], plan[rows] = some.fit(y[rows])
    return x, y, iterations, plan


def unroll(
    problems: Problems, start: Tensor | None, tolerance: float, max_iterations: int, *, far: bool
) -> tuple[Tensor, Tensor]:
    """Column potentials and iterations, with a graph through all Sinkhorn iterations at the final epsilon.

    Earlier iterations at larger epsilon, for far problems, only give the initial potentials.
    """
    y = torch.zeros_like(problems.b) if start is None else start.clone()
    iterations = torch.zeros(len(y), dtype=torch.long, device=y.device)
    open_ = (problems.b > 0).any(1)
    if far and max_iterations > EVERY:
        with torch.no_grad():
            rows = open_.nonzero()[:, 0]
            begun = None if start is None else start[rows]
            y[rows], iterations[rows] = descend(problems.take(rows), begun, math.inf, max_iterations - EVERY)
    while bool((open_ := open_ & (iterations < max_iterations)).any()):
        for _ in range(EVERY):
            moves = (open_ & (iterations < max_iterations))[:, None]
            y = torch.where(moves, problems.columns_from(problems.rows_from(y)), y)
            iterations = iterations + moves[:, 0]
        with torch.no_grad():
            open_ &= problems.error(problems.fit(y)[1], y) > tolerance
    return y, iterations


def _multiply(
    problems: Problems, start: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Row and column potentials, iterations, plans, slow and lost problems; converged ones are left unchanged.

    Lost: a potential left the range of the numbers, as e^x may with few rows or uneven masses. Its potentials are 0.

    `P_ij = a_i u_i K_ij v_j b_j` with `u = e^x` and `v = e^y`: no exponential but in `K`.
    """
    loop = _Kernel(problems, start)
    whole, u, v = loop.kernel, torch.empty_like(problems.a), torch.empty_like(problems.b)
    iterations = torch.zeros(len(v), dtype=torch.long, device=v.device)
    left, open_, errors = torch.arange(len(v), device=v.device), iterations == 0, torch.zeros_like(problems.epsilon)
    done, last = 0, min(PATIENCE, max_iterations)
    while done < last and len(left):
        error = loop.advance(min(EVERY, last - done))
        done = min(done + EVERY, last)
        wrong = ~(error <= tolerance)  # NaN counts as wrong
        ends = open_ & ~wrong if done < last else open_
        rows = ends.nonzero()[:, 0]
        if len(rows):
            ended = left[rows]
            u[ended], v[ended], iterations[ended], errors[ended] = loop.u[rows], loop.v[rows], done, error[rows]
            open_ = open_ & ~ends
            rows = open_.nonzero()[:, 0]
            if 2 * len(rows) <= len(open_):
                loop.take(rows)
                left, open_ = left[rows], open_[rows]
    plan = whole.mul_((problems.a * u)[:, :, None]).mul_((problems.b * v)[:, None, :])
    x = torch.where(problems.a > 0, u.log(), 0.0)
    y = torch.where(problems.b > 0, v.log(), 0.0)
    lost = ~(errors.isfinite() & x.isfinite().all(1) & y.isfinite().all(1))
    y, iterations = torch.where(lost[:, None], 0.0, y), torch.where(lost, 0, iterations)
    return x, y, iterations, plan, ~(errors <= tolerance), lost


class _Kernel:
    """Overrelaxed Sinkhorn multiplications, relaxation 1.25 (Thibault et al. 2017, arXiv 1711.01851).

    Halves the iterations of slow problems; a problem that does not converge is treated as slow.
    """

    def __init__(self, problems: Problems, y: Tensor) -> None:
        self.a, self.b, self.exact = problems.a, problems.b, problems.exact
        self.give_b = problems.give_b
        self.power_a, self.power_b = -1 / (1 + problems.give_a), -1 / (1 + self.give_b)
        self.kernel = problems.scores.exp_()
        if self.exact:
            y = y - (self.b * y).sum(1, keepdim=True) / self.b.sum(1, keepdim=True)
        self.u, self.v = self.a, y.clamp(-REACH / 2, REACH / 2).exp()
        self._rows(further=False)

    def take(self, rows: Tensor) -> None:
        for name in ("a", "b", "give_b", "power_a", "power_b", "kernel", "u", "v", "sums"):
            setattr(self, name, getattr(self, name)[rows])

    def advance(self, times: int) -> Tensor:
        """Iterate, and return the error of each problem; row marginals are then exact."""
        for left in reversed(range(times)):
            self.v = self._further(self.v, self._fit(self.sums, self.power_b))
            self._rows(further=left > 0)
        wanted = 1.0 if self.exact else self.v**-self.give_b
        return (self.b * (self.v * self.sums - wanted)).abs().sum(1)

    def _rows(self, *, further: bool) -> None:
        # For small batches, one row times a matrix is the fast product, transposed or not.
        u = self._fit(torch.bmm((self.b * self.v)[:, None, :], self.kernel.mT)[:, 0], self.power_a)
        self.u = self._further(self.u, u) if further else u
        self.sums = torch.bmm((self.a * self.u)[:, None, :], self.kernel)[:, 0]  # sum_i a_i u_i K_ij

    def _fit(self, sums: Tensor, power: Tensor) -> Tensor:
        return sums.reciprocal() if self.exact else sums**power

    @staticmethod
    def _further(old: Tensor, new: Tensor) -> Tensor:
        return (new / old).sqrt_().sqrt_().mul_(new)
