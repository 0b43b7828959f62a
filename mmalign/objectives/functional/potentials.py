"""The loops of Sinkhorn's algorithm: from a batch of transport problems to the potentials that solve them.

Everything here is in units of epsilon: `scores = -cost / epsilon`, `x = f / epsilon`, `y = g / epsilon`. The plan is
`a_i b_j exp(x_i + y_j + scores_ij)`. Problems never see each other: what is chosen for one depends on that one alone.
"""

from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor

# The logarithm of no mass. Finite, so that differences and gradients of two of them are numbers.
NOTHING = -1e30
# Iterations between two looks at the error.
EVERY = 5
# Exponentials of scores that lie within this reach can be multiplied instead of added in the log domain (e^88 is the
# end of float32).
REACH = 60.0
# Epsilon scaling begins where the scores span this much, and goes down by this factor after each look at the error.
SPAN, FACTOR = 10.0, 0.5


@dataclass(frozen=True)
class Problems:
    """A batch of transport problems, cleaned: no mass and no score where a side is padded or the other side is empty.

    Shape:
        scores `(batch, rows, columns)`; a, log_a `(batch, rows)`; b, log_b `(batch, columns)`; give_a, give_b
        `(batch, 1)`: `epsilon / rho`, 0 where the marginal is exact.
    """

    scores: Tensor
    a: Tensor
    b: Tensor
    log_a: Tensor
    log_b: Tensor
    give_a: Tensor
    give_b: Tensor

    def take(self, rows: Tensor) -> "Problems":
        """Some of the problems."""
        return Problems(*(getattr(self, field.name)[rows] for field in fields(self)))

    def rows_from(self, y: Tensor) -> Tensor:
        """The row potentials that fit column potentials: `x_i = - LSE_j(log b_j + y_j + scores_ij) / (1 + give)`."""
        x = -_logsumexp(self.scores + (self.log_b + y)[:, None, :], 2) / (1 + self.give_a)
        return torch.where(self.a > 0, x, 0.0)

    def columns_from(self, x: Tensor) -> Tensor:
        """The column potentials that fit row potentials."""
        y = -_logsumexp(self.scores + (self.log_a + x)[:, :, None], 1) / (1 + self.give_b)
        return torch.where(self.b > 0, y, 0.0)

    def plan(self, x: Tensor, y: Tensor) -> Tensor:
        """What moves from where to where."""
        return (self.scores + (self.log_a + x)[:, :, None] + (self.log_b + y)[:, None, :]).exp()

    def error(self, plan: Tensor, y: Tensor) -> Tensor:
        """L1 distance of the column sums from `b exp(-give y)`, which is `b` itself where the marginal is exact."""
        return (plan.sum(1) - self.b * (-self.give_b * y).exp()).abs().sum(1)


def solve(problems: Problems, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """Column potentials `(batch, columns)` and iterations `(batch,)`; rows fit by `rows_from`."""
    y, iterations = (
        torch.zeros_like(problems.b),
        torch.zeros(len(problems.b), dtype=torch.long, device=problems.b.device),
    )
    open_ = (problems.b > 0).any(1)
    span, middle = _span(problems)
    near = (open_ & (span <= REACH)).nonzero()[:, 0]
    y[near], iterations[near] = _drive(_Kernel(problems.take(near), middle[near]), tolerance, max_iterations)
    far = (open_ & ((span > REACH) | ~y.isfinite().all(1))).nonzero()[:, 0]
    y[far], iterations[far] = _drive(_Log(problems.take(far), span[far]), tolerance, max_iterations)
    return y, iterations


def unroll(problems: Problems, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """The same with a graph through every iteration (those at larger epsilon, which only choose a start, left out)."""
    with torch.no_grad():
        span, _ = _span(problems)
        start = _Log(problems, torch.where(span > REACH, span, 0.0))
        iterations = torch.zeros_like(span, dtype=torch.long)
        y = start.y
        while start.scaling() and int(iterations.max()) + EVERY < max_iterations:
            scaled = start.times[:, 0] > 1
            start.advance(EVERY)
            y, iterations = torch.where(scaled[:, None], start.y, y), iterations + EVERY * scaled
    open_ = (problems.b > 0).any(1)
    while bool((open_ := open_ & (iterations < max_iterations)).any()):
        for _ in range(EVERY):
            moves = (open_ & (iterations < max_iterations))[:, None]
            y = torch.where(moves, problems.columns_from(problems.rows_from(y)), y)
            iterations = iterations + moves[:, 0]
        with torch.no_grad():
            open_ &= problems.error(problems.plan(problems.rows_from(y), y), y) > tolerance
    return y, iterations


class _Loop(Protocol):
    @property
    def y(self) -> Tensor:
        """The column potentials."""

    def advance(self, times: int) -> Tensor:
        """Iterate, and return the error of each problem."""

    def take(self, rows: Tensor) -> Self:
        """Go on with some of the problems."""


def _drive(loop: _Loop, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """Iterate; a problem whose error is small enough leaves, and is not touched again."""
    y, iterations = torch.empty_like(loop.y), loop.y.new_zeros(len(loop.y), dtype=torch.long)
    left, done = torch.arange(len(y), device=y.device), 0
    while len(left):
        times = min(EVERY, max_iterations - done)
        error = loop.advance(times)
        done += times
        ends = error <= tolerance if done < max_iterations else torch.ones_like(error, dtype=torch.bool)
        if bool(ends.any()):
            y[left[ends]], iterations[left[ends]] = loop.y[ends], done
            left, loop = left[~ends], loop.take(~ends)
    return y, iterations


class _Kernel:
    """Sinkhorn's multiplications: no exponential after the first."""

    def __init__(self, problems: Problems, middle: Tensor) -> None:
        self.a, self.b = problems.a, problems.b
        self.give_b = problems.give_b
        self.power_a, self.power_b = -1 / (1 + problems.give_a), -1 / (1 + problems.give_b)
        self.exact = not bool((problems.give_a > 0).any() or (problems.give_b > 0).any())
        # A constant in the scores moves into the potentials, whose constants the plan does not see.
        # Padded scores are 0, which may lie anywhere.
        self.kernel = (problems.scores - middle[:, None, None]).clamp_(-REACH, REACH).exp_()
        self.turned = self.kernel.mT.contiguous()  # one row times a matrix is the fast product of small batches
        self.v = torch.ones_like(self.b)

    @property
    def y(self) -> Tensor:
        return torch.where(self.b > 0, self.v.log(), 0.0)

    def take(self, rows: Tensor) -> "_Kernel":
        for name in ("a", "b", "give_b", "power_a", "power_b", "kernel", "turned", "v"):
            setattr(self, name, getattr(self, name)[rows])
        return self

    def advance(self, times: int) -> Tensor:
        for _ in range(times):
            self.v = self._power(self._sums(), self.power_b)
        sums = self._sums()
        wanted = 1.0 if self.exact else self.v**-self.give_b
        return (self.b * (self.v * sums - wanted)).abs().sum(1)

    def _sums(self) -> Tensor:
        # sum_i a_i u_i K_ij with u from v
        u = self._power(torch.bmm((self.b * self.v)[:, None, :], self.turned)[:, 0], self.power_a)
        return torch.bmm((self.a * u)[:, None, :], self.kernel)[:, 0]

    def _power(self, sums: Tensor, power: Tensor) -> Tensor:
        return sums.reciprocal() if self.exact else sums**power


class _Log:
    """Sinkhorn in the log domain, coming down to the wanted epsilon from one at which every row sees every column."""

    def __init__(self, problems: Problems, span: Tensor) -> None:
        self.problems, self.y = problems, torch.zeros_like(problems.b)
        self.times = (span / SPAN).clamp(min=1.0)[:, None]  # how many times too large epsilon still is

    def scaling(self) -> bool:
        return bool((self.times > 1).any())

    def take(self, rows: Tensor) -> "_Log":
        self.problems, self.y, self.times = self.problems.take(rows), self.y[rows], self.times[rows]
        return self

    def advance(self, times: int) -> Tensor:
        scaled, here = self.times[:, 0] > 1, self.problems
        if self.scaling():
            wide = self.times
            here = Problems(
                here.scores / wide[:, :, None], here.a, here.b, here.log_a, here.log_b,
                here.give_a * wide, here.give_b * wide,
            )  # fmt: skip
        y = self.y / self.times
        for _ in range(times):
            y = here.columns_from(here.rows_from(y))
        error = here.error(here.plan(here.rows_from(y), y), y)
        self.y = y * self.times
        self.times = (self.times * FACTOR).clamp(min=1.0)
        return torch.where(scaled, torch.inf, error)


def _logsumexp(scores: Tensor, dim: int) -> Tensor:
    if torch.is_grad_enabled() or not scores.shape[dim]:
        return scores.logsumexp(dim)
    # e^-80 adds nothing, and exponentials that end as denormal numbers take ten times as long on a CPU.
    top = scores.amax(dim, keepdim=True)
    return (scores - top).clamp_(min=-80.0).exp_().sum(dim).log_().add_(top.squeeze(dim))


def _span(problems: Problems) -> tuple[Tensor, Tensor]:
    """How far the scores reach `(batch,)` and what to take from them first: where mass may be lost, nothing."""
    real = (problems.a > 0)[:, :, None] & (problems.b > 0)[:, None, :]
    if not real.numel():
        return problems.scores.new_zeros(len(real)), problems.scores.new_zeros(len(real))
    low = torch.where(real, problems.scores, torch.inf).amin((1, 2))
    high = torch.where(real, problems.scores, -torch.inf).amax((1, 2))
    exact = ((problems.give_a == 0) & (problems.give_b == 0))[:, 0]
    span = torch.where(exact, high - low, torch.maximum(high.abs(), low.abs()))
    middle = torch.where(exact, (high + low) / 2, 0.0)
    some = real.any(2).any(1)
    return torch.where(some, span, 0.0), torch.where(some, middle, 0.0)
