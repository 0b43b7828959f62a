"""From a batch of transport problems to the potentials that solve them.

Everything here is in units of epsilon, see `Problems`. What is chosen for a problem depends on that one alone.
"""

import math

import torch
from torch import Tensor

from mmalign.objectives.functional.transport_newton import descend
from mmalign.objectives.functional.transport_problems import Problems

# Sinkhorn's iterations between two looks at the error.
EVERY = 5
# Exponentials of scores that lie within this reach can be multiplied instead of added in the log domain (e^88 is the
# end of float32). Problems beyond are far: theirs go by Newton's method.
REACH = 60.0
# After so many of Sinkhorn's iterations Newton's method takes over.
PATIENCE = 50


def solve(
    problems: Problems, start: Tensor | None, tolerance: float, max_iterations: int, *, far: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Row potentials `(batch, rows)`, column potentials `(batch, columns)` and iterations `(batch,)`.

    Args:
        problems: All of them far, then in float64, or none.
        start: Column potentials to begin with; a problem that they solve is left as it is.
        tolerance: On the error.
        max_iterations: Where to stop in any case.
        far: Whether they are.
    """
    x, y = torch.zeros_like(problems.a), torch.zeros_like(problems.b) if start is None else start.clone()
    iterations = torch.zeros(len(y), dtype=torch.long, device=y.device)
    open_ = (problems.b > 0).any(1)
    if start is not None:
        x, plan = problems.fit(y)
        open_ &= ~(problems.error(plan, y) <= tolerance)
    if not far:
        rows = open_.nonzero()[:, 0]
        some = problems if len(rows) == len(y) else problems.take(rows)
        x[rows], y[rows], iterations[rows], open_[rows] = _multiply(some, y[rows], tolerance, max_iterations)
        start = y
    rows, left = open_.nonzero()[:, 0], max_iterations - (0 if far else PATIENCE)
    if len(rows) and left > 0:
        some = problems.take(rows)
        begun = None if start is None else start[rows].double()
        found, more = descend(some.double(), begun, tolerance, left)
        y[rows], iterations[rows] = found.to(y.dtype), iterations[rows] + more
        x[rows] = some.rows_from(y[rows])
    return x, y, iterations


def unroll(
    problems: Problems, start: Tensor | None, tolerance: float, max_iterations: int, *, far: bool
) -> tuple[Tensor, Tensor]:
    """Column potentials and iterations, with a graph through every one of Sinkhorn's iterations at the wanted epsilon.

    Those that come before at larger epsilon, where problems are far, only choose a start.
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, columns, iterations, and which are too slow to wait for; a problem that is done is not touched again."""
    loop = _Kernel(problems, start)
    x, y, iterations = torch.zeros_like(problems.a), start.clone(), torch.zeros(len(start), dtype=torch.long)
    iterations = iterations.to(start.device)
    left, open_, done = torch.arange(len(y), device=y.device), torch.ones_like(iterations, dtype=torch.bool), 0
    slow, last = torch.zeros_like(open_), min(PATIENCE, max_iterations)
    while done < last and len(left):
        error = loop.advance(min(EVERY, last - done))
        done = min(done + EVERY, last)
        wrong = ~(error <= tolerance)  # not a number is wrong too
        ends = open_ & ~wrong if done < last else open_
        if bool(ends.any()):
            places, (found_x, found_y) = left[ends], loop.potentials(ends)
            x[places], y[places], iterations[places], slow[places] = found_x, found_y, done, wrong[ends]
            open_ = open_ & ~ends
            if 2 * int(open_.sum()) <= len(open_):
                loop.take(open_)
                left, open_ = left[open_], open_[open_]
    return x, torch.where(y.isfinite(), y, 0.0), iterations, slow


class _Kernel:
    """Sinkhorn's multiplications: no exponential after the first."""

    def __init__(self, problems: Problems, y: Tensor) -> None:
        self.a, self.b = problems.a, problems.b
        self.give_b = problems.give_b
        self.power_a, self.power_b = -1 / (1 + problems.give_a), -1 / (1 + self.give_b)
        self.exact = problems.exact
        # A constant in the scores moves into the potentials, whose constants the plan does not see. Where mass may be
        # lost it does.
        middle = (problems.low + problems.high) / (-2 * problems.epsilon)
        self.middle = (middle if self.exact else torch.zeros_like(middle))[:, None]
        self.kernel = (problems.scores - self.middle[:, :, None]).exp_()
        self.turned = self.kernel.mT.contiguous()  # one row times a matrix is the fast product of small batches
        if self.exact:
            y = y - (self.b * y).sum(1, keepdim=True) / self.b.sum(1, keepdim=True)
        self.v = y.clamp(-REACH / 2, REACH / 2).exp()

    def potentials(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        a, b, u, v = self.a[rows], self.b[rows], self._rows()[rows], self.v[rows]
        return torch.where(a > 0, u.log() - self.middle[rows], 0.0), torch.where(b > 0, v.log(), 0.0)

    def take(self, rows: Tensor) -> None:
        for name in ("a", "b", "give_b", "power_a", "power_b", "middle", "kernel", "turned", "v"):
            setattr(self, name, getattr(self, name)[rows])

    def advance(self, times: int) -> Tensor:
        """Iterate, and return the error of each problem."""
        for _ in range(times):
            self.v = self._power(self._sums(), self.power_b)
        sums = self._sums()
        wanted = 1.0 if self.exact else self.v**-self.give_b
        return (self.b * (self.v * sums - wanted)).abs().sum(1)

    def _rows(self) -> Tensor:
        return self._power(torch.bmm((self.b * self.v)[:, None, :], self.turned)[:, 0], self.power_a)

    def _sums(self) -> Tensor:
        # sum_i a_i u_i K_ij with u from v
        return torch.bmm((self.a * self._rows())[:, None, :], self.kernel)[:, 0]

    def _power(self, sums: Tensor, power: Tensor) -> Tensor:
        return sums.reciprocal() if self.exact else sums**power
