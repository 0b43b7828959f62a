"""Entropic transport as the papers write it: float64, one entry at a time, every weight above zero."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Matrix = NDArray[np.float64]


def sinkhorn(
    cost: Matrix,
    epsilon: float,
    a: Sequence[float],
    b: Sequence[float],
    rho_a: float = math.inf,
    rho_b: float = math.inf,
    iterations: int = 2000,
) -> tuple[Matrix, float]:
    """Plan and primal value of `<C, P> + epsilon KL(P | a b^T) + rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b)`."""
    rows, columns = cost.shape
    f, g = [0.0] * rows, [0.0] * columns
    damp_a, damp_b = (1.0 if math.isinf(rho) else rho / (rho + epsilon) for rho in (rho_a, rho_b))
    for _ in range(iterations):
        g = [
            -damp_b * epsilon * _lse([math.log(a[i]) + (f[i] - cost[i, j]) / epsilon for i in range(rows)])
            for j in range(columns)
        ]
        f = [
            -damp_a * epsilon * _lse([math.log(b[j]) + (g[j] - cost[i, j]) / epsilon for j in range(columns)])
            for i in range(rows)
        ]
    plan = np.array(
        [[a[i] * b[j] * math.exp((f[i] + g[j] - cost[i, j]) / epsilon) for j in range(columns)] for i in range(rows)]
    )
    value = math.fsum((plan * cost).ravel()) + epsilon * _kl(plan.ravel(), np.outer(a, b).ravel())
    for rho, marginal, mass in ((rho_a, plan.sum(1), a), (rho_b, plan.sum(0), b)):
        if not math.isinf(rho):
            value += rho * _kl(marginal, mass)
    return plan, value


def partial_sinkhorn(
    cost: Matrix, epsilon: float, a: Sequence[float], b: Sequence[float], mass: float, iterations: int = 5000
) -> tuple[Matrix, float]:
    """Plan and value when so much mass moves, by one more row and column whose common cell is forbidden."""
    rows, columns = cost.shape
    a, b = [*a, math.fsum(b) - mass], [*b, math.fsum(a) - mass]
    cells = [(i, j) for i in range(rows + 1) for j in range(columns + 1) if (i, j) != (rows, columns)]
    kernel = {(i, j): math.exp(-cost[i, j] / epsilon) if i < rows and j < columns else 1.0 for i, j in cells}
    u, v = [1.0] * (rows + 1), [1.0] * (columns + 1)
    for _ in range(iterations):
        sums = [0.0] * (columns + 1)
        for i, j in cells:
            sums[j] += a[i] * u[i] * kernel[i, j]
        v = [1 / total for total in sums]
        sums = [0.0] * (rows + 1)
        for i, j in cells:
            sums[i] += b[j] * v[j] * kernel[i, j]
        u = [1 / total for total in sums]
    whole = {(i, j): a[i] * b[j] * u[i] * v[j] * kernel[i, j] for i, j in cells}
    plan = np.array([[whole[i, j] for j in range(columns)] for i in range(rows)])
    divergence = _kl([whole[cell] for cell in cells], [a[i] * b[j] for i, j in cells])
    return plan, math.fsum((plan * cost).ravel()) + epsilon * divergence


def exact(cost: Matrix, a: Matrix, b: Matrix, mass: float | None = None) -> float:
    """The least cost without entropy, as a linear program; `mass`: how much of it moves, all by default."""
    rows, columns = cost.shape
    sums = np.concatenate([np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))])
    masses = np.concatenate([a, b])
    if mass is None:
        found = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=masses[:-1])
    else:
        found = linprog(cost.ravel(), A_ub=sums, b_ub=masses, A_eq=np.ones((1, rows * columns)), b_eq=[mass])
    assert found.status == 0, found.message
    return float(found.fun)


def _kl(p: Sequence[float] | Matrix, q: Sequence[float] | Matrix) -> float:
    return math.fsum((x * math.log(x / y) if x > 0 else 0.0) - x + y for x, y in zip(p, q, strict=True))


def _lse(values: list[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
