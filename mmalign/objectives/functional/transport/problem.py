"""A batch of independent transport problems without padding, and the plan that potentials define."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmalign.errors import UserError

# Logarithm of zero mass. Finite, so that differences and gradients of two of them are finite.
NOTHING = -1e30
# Exponents are clamped here: e^-80 adds nothing, and on a CPU exponentials that underflow take ten times as long.
LEAST = -80.0


@dataclass(frozen=True, eq=False)
class Problems:
    """Batched transport problems; potentials are in units of epsilon: `x = f / epsilon`, `y = g / epsilon`.

    The plan is `a_i b_j exp(x_i + y_j + scores_ij)` with `scores = (middle - cost) / epsilon`.

    Args:
        cost: `(batch, rows, columns)`, finite everywhere.
        epsilon: `(batch,)`.
        a: Mass of the rows, `(batch, rows)`: 0 at padding, and everywhere if the columns are empty.
        b: Mass of the columns, `(batch, columns)`.
        rho_a: Cost per unit of unmatched row mass, `(batch,)`; None: exact row marginals.
        rho_b: The same for the columns.
        low: Minimum of the real costs, `(batch,)`.
        high: Maximum of the real costs, `(batch,)`.
        padded: Whether some rows or columns may have no mass.
    """

    cost: Tensor
    epsilon: Tensor
    a: Tensor
    b: Tensor
    rho_a: Tensor | None
    rho_b: Tensor | None
    low: Tensor
    high: Tensor
    padded: bool = True

    @property
    def scores(self) -> Tensor:
        """`(middle - cost) / epsilon`, recomputed at each access, which is faster than storing it."""
        apart, by = self.cost - self.middle[:, None, None], (-1 / self.epsilon)[:, None, None]
        return apart * by if torch.is_grad_enabled() else apart.mul_(by)

    @property
    def middle(self) -> Tensor:
        """Middle of the costs, `(batch,)`, subtracted because a large constant would cost the potentials precision.

        0 with a relaxed marginal, where a constant changes the plan.
        """
        return (self.low + self.high) / 2 if self.exact else torch.zeros_like(self.low)

    @property
    def log_a(self) -> Tensor:
        """Logarithm of the row masses; finite for zero mass."""
        return _log(self.a)

    @property
    def log_b(self) -> Tensor:
        """The same for the columns."""
        return _log(self.b)

    @property
    def real(self) -> Tensor:
        """Where mass may move, `(batch, rows, columns)`."""
        return (self.a > 0)[:, :, None] & (self.b > 0)[:, None, :]

    @property
    def exact(self) -> bool:
        """Whether both marginals are exact: then a constant may be moved from x to y without changing the plan."""
        return self.rho_a is None and self.rho_b is None

    @property
    def give_a(self) -> Tensor:
        """`epsilon / rho`, `(batch, 1)`: 0 where the marginal is exact."""
        return self._give(self.rho_a)

    @property
    def give_b(self) -> Tensor:
        """The same for the columns."""
        return self._give(self.rho_b)

    @property
    def span(self) -> Tensor:
        """Range of the scores, `(batch,)`; with a relaxed marginal their range including 0."""
        reach = self.high - self.low if self.exact else torch.maximum(self.high.abs(), self.low.abs())
        return reach / self.epsilon.detach()

    def take(self, rows: Tensor) -> "Problems":
        """Select problems."""
        return self._each(lambda tensor: tensor[rows])

    def double(self) -> "Problems":
        """The same in float64."""
        return self._each(Tensor.double)

    def at(self, factor: Tensor) -> "Problems":
        """The same problems with epsilon multiplied by `wide`, `(batch,)`."""
        return replace(self, epsilon=self.epsilon * factor)

    def turned(self) -> "Problems":
        """Columns become rows."""
        marginals = self.b, self.a, self.rho_b, self.rho_a
        return Problems(self.cost.mT, self.epsilon, *marginals, self.low, self.high, self.padded)

    def rows_from(self, y: Tensor) -> Tensor:
        """Optimal row potentials for column potentials: `x_i = - LSE_j(log b_j + y_j + scores_ij) / (1 + give)`."""
        x = -_logsumexp(self.scores + (self.log_b + y)[:, None, :], 2) / (1 + self.give_a)
        return torch.where(self.a > 0, x, 0.0)

    def columns_from(self, x: Tensor) -> Tensor:
        """Optimal column potentials for row potentials."""
        y = -_logsumexp(self.scores + (self.log_a + x)[:, :, None], 1) / (1 + self.give_b)
        return torch.where(self.b > 0, y, 0.0)

    def plan(self, x: Tensor, y: Tensor) -> Tensor:
        """Transport plan of the potentials, `(batch, rows, columns)`."""
        exponents = self.scores + (self.log_a + x)[:, :, None] + (self.log_b + y)[:, None, :]
        plan = exponents.clamp(min=LEAST).exp()
        return torch.where(self.real, plan, 0.0) if self.padded else plan

    @torch.no_grad()
    def fit(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """`rows_from(y)` and the plan with them, from the same exponentials."""
        exponents, top = _below_top(self.scores + (self.log_b + y)[:, None, :], 2)
        sums = exponents.exp_().sum(2)
        x = torch.where(self.a > 0, -(sums.log() + top) / (1 + self.give_a), 0.0)
        rows = self.a if self.rho_a is None else self.a * (-self.give_a * x).exp()
        plan = exponents.mul_((rows / sums)[:, :, None])
        return x, plan.mul_((self.b > 0)[:, None, :]) if self.padded else plan

    def wanted(self, y: Tensor) -> Tensor:
        """Target column sums: `b exp(-give y)`, equal to `b` where the marginal is exact."""
        return self.b if self.rho_b is None else self.b * (-self.give_b * y).exp()

    def error(self, plan: Tensor, y: Tensor) -> Tensor:
        """L1 distance of the column sums from their targets, `(batch,)`."""
        return (plan.sum(1) - self.wanted(y)).abs().sum(1)

    def _give(self, rho: Tensor | None) -> Tensor:
        return self.epsilon.new_zeros(len(self.epsilon), 1) if rho is None else (self.epsilon / rho)[:, None]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Problems":
        cost, epsilon, a, b = (change(tensor) for tensor in (self.cost, self.epsilon, self.a, self.b))
        rho_a, rho_b = (None if rho is None else change(rho) for rho in (self.rho_a, self.rho_b))
        return Problems(cost, epsilon, a, b, rho_a, rho_b, change(self.low), change(self.high), self.padded)


Sides = tuple[Tensor | None, Tensor | None]
Prices = tuple[Tensor | float | None, Tensor | float | None]


def clean(cost: Tensor, epsilon: Tensor | float, masses: Sides, masks: Sides, rhos: Prices) -> Problems:
    """Problems in float32 or float64, with zero mass at padding and where the other side is empty.

    Raises:
        UserError: shapes do not fit, epsilon or rho is not above 0, or (on the CPU) a real cost is not finite or a mass
            is negative or not finite.
    """
    if cost.ndim != 3:
        raise UserError(f"cost: expected (batch, rows, columns), got shape {tuple(cost.shape)}")
    cost = cost.to(torch.promote_types(cost.dtype, torch.float32))
    shapes = cost.shape[:2], (cost.shape[0], cost.shape[2])
    marginals = [
        _marginal(name, cost, shape, *of) for name, shape, *of in zip("ab", shapes, masses, masks, strict=True)
    ]
    scale = per_problem("epsilon", epsilon, cost)
    rho_a, rho_b = (
        None if rho is None else per_problem(name, rho, cost)
        for name, rho in zip(("rho_a", "rho_b"), rhos, strict=True)
    )
    (a, b), padded = marginals, any(tensor is not None for tensor in (*masses, *masks)) or not cost.numel()
    if padded:
        # If one side has no mass, nothing can move: the other is set to zero too.
        both = (a > 0).any(1, keepdim=True) & (b > 0).any(1, keepdim=True)
        a, b = (torch.where(both & (mass > 0), mass, 0.0) for mass in (a, b))
    if padded and cost.numel():
        # Entries without mass get the first real cost of their problem: finite, and within the range of the others.
        first = cost.detach()[
            torch.arange(len(cost), device=cost.device), (a > 0).int().argmax(1), (b > 0).int().argmax(1)
        ]
        first = torch.where(both[:, 0], first, 0.0)
        cost = torch.where((a > 0)[:, :, None] & (b > 0)[:, None, :], cost, first[:, None, None])
    low = high = cost.new_zeros(len(cost))
    if cost.numel():
        low, high = cost.detach().amin((1, 2)), cost.detach().amax((1, 2))
    if cost.device.type == "cpu" and not bool((low.isfinite() & high.isfinite()).all()):
        raise UserError("cost: expected finite numbers wherever both masks are True, got NaN or infinity")
    return Problems(cost, scale, a, b, rho_a, rho_b, low, high, padded)


def per_problem(name: str, setting: Tensor | float, cost: Tensor) -> Tensor:
    """A number above 0 for each problem, `(batch,)`.

    Raises:
        UserError: it is none, or there are more or fewer of them than problems.
    """
    if not isinstance(setting, Tensor):
        if not 0 < setting < math.inf:
            raise UserError(f"{name}: expected a finite number above 0, got {setting}")
        return cost.new_full((1,), setting).expand(len(cost))
    value = setting.to(cost.device, cost.dtype)
    if value.ndim > 1 or (value.ndim == 1 and len(value) not in (1, len(cost))):
        raise UserError(f"{name}: expected a number or one per problem ({len(cost)}), got shape {tuple(value.shape)}")
    if setting.device.type == "cpu" and not bool(((value > 0) & (value < math.inf)).all()):
        raise UserError(f"{name}: expected a finite number above 0, got {setting}")
    return value.expand(len(cost))


def starting(start: Tensor | None, problems: Problems) -> Tensor | None:
    """Initial column potentials in units of the cost, zero at padding.

    Raises:
        UserError: the shape is not that of the columns, or (on the CPU) one of a real column is not finite.
    """
    if start is None:
        return None
    if start.shape != problems.b.shape:
        raise UserError(f"start: expected shape {tuple(problems.b.shape)}, got {tuple(start.shape)}")
    start = torch.where(problems.b > 0, start.detach().to(problems.b), 0.0)
    if start.device.type == "cpu" and not bool(start.isfinite().all()):
        raise UserError("start: expected finite potentials of the columns, got NaN or infinity")
    return start


def _marginal(name: str, cost: Tensor, shape: tuple[int, ...], mass: Tensor | None, mask: Tensor | None) -> Tensor:
    for what, tensor in ((name, mass), (f"mask_{name}", mask)):
        if tensor is not None and tensor.shape != shape:
            raise UserError(f"{what}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise UserError(f"mask_{name}: expected True and False, got {mask.dtype}")
    if mass is None:
        if mask is None:
            return cost.new_full(shape, 1 / max(shape[1], 1))
        real = mask.to(cost.dtype)
        return real / real.sum(1, keepdim=True).clamp(min=1)
    mass = mass.to(cost.dtype) if mask is None else torch.where(mask, mass.to(cost.dtype), 0.0)
    if mass.device.type == "cpu" and not bool(((mass >= 0) & mass.isfinite()).all()):
        raise UserError(f"{name}: expected masses of at least 0, got a negative one, NaN or infinity")
    return mass


def _log(mass: Tensor) -> Tensor:
    return torch.where(mass > 0, torch.where(mass > 0, mass, 1.0).log(), NOTHING)


def _logsumexp(scores: Tensor, dim: int) -> Tensor:
    if not scores.shape[dim]:
        return scores.logsumexp(dim)
    below, top = _below_top(scores, dim)
    return below.exp().sum(dim).log() + top


def _below_top(scores: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    top = scores.detach().amax(dim, keepdim=True)
    return (scores - top).clamp(min=LEAST), top.squeeze(dim)
