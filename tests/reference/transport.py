"""Entropic transport as the papers write it: float64, one entry at a time, every weight above zero."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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


def _kl(p: Sequence[float] | Matrix, q: Sequence[float] | Matrix) -> float:
    return math.fsum((x * math.log(x / y) if x > 0 else 0.0) - x + y for x, y in zip(p, q, strict=True))


def _lse(values: list[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
