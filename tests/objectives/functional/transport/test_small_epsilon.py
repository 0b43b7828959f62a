"""Where multiplications do not reach or take too long: Newton's method, in float64."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.objectives.functional import sinkhorn
from mmalign.objectives.functional.transport.newton import descend, newton_step
from mmalign.objectives.functional.transport.problem import clean
from mmalign.objectives.functional.transport.solver import EVERY, PATIENCE, REACH
from tests.reference import transport as reference


def cosine(batch: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Costs of random unit vectors, float32."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (F.normalize(torch.randn(batch, n, 64, generator=generator), dim=2) for n in (rows, columns))
    return 1 - a @ b.mT


def ties(batch: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Distances between points of a grid: many costs are equal, and many plans as good as each other."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(0, 4, (batch, n, 3), generator=generator).float() for n in (rows, columns))
    return (a[:, :, None] - b[:, None]).abs().sum(3) / 4.5


def costly(batch: int, rows: int, columns: int) -> Tensor:
    """Costs in the hundreds, and one of a million."""
    cost = 300 * torch.rand(batch, rows, columns, generator=torch.Generator().manual_seed(0))
    cost[:, 0, 0] = 3e6
    return cost


@pytest.mark.parametrize("make", [cosine, ties])
@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4])
def test_the_default_tolerance_is_reached_within_the_default_iterations(make: Any, epsilon: float) -> None:
    # Sinkhorn's iterations at epsilon = 1e-3, scaled down to it, leave an error of 0.02 after 200.
    cost = make(4, 64, 32)
    got = sinkhorn(cost, epsilon)
    assert float(got.error.max()) <= 1e-3
    assert 0 < int(got.iterations.min()) <= int(got.iterations.max()) <= 100
    torch.testing.assert_close(got.error, (got.plan.sum(1) - 1 / 32).abs().sum(1), rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(got.plan.sum(2), torch.full((4, 64), 1 / 64), rtol=1e-5, atol=0)
    rows, columns = np.full(64, 1 / 64), np.full(32, 1 / 32)
    for k in range(4):
        least = reference.exact(cost[k].double().numpy(), rows, columns)
        moved = float((got.plan[k] * cost[k]).double().sum())
        # What the columns lack may be saved, at most the greatest cost on half the error.
        assert -1e-3 <= moved - least <= epsilon * math.log(64 * 32) + 1e-3
    long = sinkhorn(cost.double(), epsilon, tolerance=1e-10, max_iterations=1000)
    assert float(long.error.max()) <= 1e-10
    assert float((got.plan - long.plan).abs().sum((1, 2)).max()) < 1e-2
    torch.testing.assert_close(got.value.double(), long.value, rtol=0, atol=2e-6)
    for k in range(4):
        least = reference.exact(cost[k].double().numpy(), rows, columns)
        assert -1e-9 <= float((long.plan[k] * cost[k]).sum()) - least <= epsilon * math.log(64 * 32)


def test_equals_the_exact_solver_of_pot() -> None:
    ot = pytest.importorskip("ot")
    cost, weight = cosine(4, 64, 32), {"rows": np.full(64, 1 / 64), "columns": np.full(32, 1 / 32)}
    got = sinkhorn(cost, 1e-3)
    for k in range(4):
        matrix = cost[k].double().numpy()
        least = float((ot.emd(weight["rows"], weight["columns"], matrix) * matrix).sum())
        assert abs(float((got.plan[k] * cost[k]).sum()) - least) <= 1e-3 * math.log(64 * 32)
        assert least == pytest.approx(reference.exact(matrix, *weight.values()), abs=1e-9)


@pytest.mark.parametrize(
    ("power", "lost"), [(0, [342, 561, 1079, 2882]), (3, [599, 853, 2948])], ids=["even masses", "uneven masses"]
)
def test_plans_are_finite_where_multiplications_leave_the_range_of_float32(power: int, lost: list[int]) -> None:
    # Few real rows and costs that span almost REACH: 14 of each 3,000 such problems overflow within 50 iterations.
    ot = pytest.importorskip("ot")
    generator = torch.Generator().manual_seed(4 + power)
    cost = torch.rand(3000, 12, 9, generator=generator)
    epsilon = 1 / (50 + 10 * torch.rand(3000, generator=generator))
    real_a = torch.arange(12) < torch.randint(1, 5, (3000, 1), generator=generator)
    real_b = torch.arange(9) < torch.randint(1, 10, (3000, 1), generator=generator)
    a, b = (
        torch.where(real, power * torch.rand(real.shape, generator=generator).log(), -math.inf).softmax(1)
        for real in (real_a, real_b)
    )
    got = sinkhorn(cost, epsilon, a=a, b=b, max_iterations=PATIENCE, gradient="envelope")
    assert all(bool(tensor.isfinite().all()) for tensor in (got.plan, got.value, got.error, got.potentials))
    assert int(got.iterations.max()) <= PATIENCE
    one = real_a.sum(1) == 1  # all mass of the columns comes from the one row
    torch.testing.assert_close(got.plan[one, 0], b[one], rtol=0, atol=1e-3)
    for k in lost:
        rows, columns = int(real_a[k].sum()), int(real_b[k].sum())
        masses = (mass / mass.sum() for mass in (a[k, :rows].double().numpy(), b[k, :columns].double().numpy()))
        matrix = cost[k, :rows, :columns].double().numpy()
        plan = ot.bregman.sinkhorn_log(*masses, matrix, float(epsilon[k]), numItermax=100_000, stopThr=1e-12)
        assert np.abs(got.plan[k, :rows, :columns].numpy() - plan).sum() < 2e-3
        assert float(got.plan[k].sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6])
def test_mass_is_conserved_in_float32_at_costs_of_a_million_epsilon(epsilon: float) -> None:
    for cost in (cosine(4, 64, 32), ties(4, 64, 32), 1000 + cosine(2, 20, 8)):
        got = sinkhorn(cost, epsilon)
        assert got.plan.dtype == got.value.dtype == got.error.dtype == got.potentials.dtype == torch.float32
        assert float(got.error.max()) <= 1e-3
        torch.testing.assert_close(got.plan.sum((1, 2)), torch.ones(len(cost)), rtol=1e-6, atol=0)
        wide = sinkhorn(cost.double(), epsilon)
        assert float((got.plan - wide.plan).abs().sum((1, 2)).max()) < 4e-3


def test_newton_steps_converge_quadratically() -> None:
    cost = cosine(8, 24, 12).double()
    loose = sinkhorn(cost, 2e-3, tolerance=1e-3)
    for tolerance, more in ((1e-6, 8), (1e-11, 14)):
        got = sinkhorn(cost, 2e-3, tolerance=tolerance)
        assert float(got.error.max()) <= tolerance
        assert int((got.iterations - loose.iterations).max()) <= more


@pytest.mark.parametrize(("rho_a", "rho_b"), [(1e4, 1e4), (1.0, 1.0), (0.05, 0.3), (None, 0.3), (0.3, None)])
def test_unbalanced_problems_converge_at_small_epsilon(rho_a: float | None, rho_b: float | None) -> None:
    cost = ties(4, 24, 12).double()
    got = sinkhorn(cost, 1e-3, rho_a=rho_a, rho_b=rho_b, tolerance=1e-9)
    assert float(got.error.max()) <= 1e-9
    assert int(got.iterations.max()) <= 150
    # The optimum's own equations: potentials say what is missing on both sides.
    for sums, mass, rho in ((got.plan.sum(2), 1 / 24, rho_a), (got.plan.sum(1), 1 / 12, rho_b)):
        if rho is None:
            torch.testing.assert_close(sums, torch.full_like(sums, mass), rtol=1e-6, atol=1e-9)
    g, rows = got.potentials, got.plan.sum(2)
    f = torch.zeros_like(rows) if rho_a is None else -rho_a * (rows * 24).log()
    if rho_a is None:
        z = (g[:, None] - cost) / 1e-3 - math.log(12)
        f = -1e-3 * z.logsumexp(2)
    plan = ((f[:, :, None] + g[:, None] - cost) / 1e-3).exp() / (24 * 12)
    torch.testing.assert_close(got.plan, plan, rtol=1e-4, atol=1e-9)
    if rho_b is not None:
        torch.testing.assert_close(got.plan.sum(1), (-g / rho_b).exp() / 12, rtol=1e-5, atol=1e-9)


def test_unbalanced_problems_of_large_rho_converge_within_the_default_iterations() -> None:
    # What is loosely missing says where potentials are, to rho times that: far, in units of epsilon.
    got = sinkhorn(cosine(4, 64, 32), 1e-5, rho_a=1.0, rho_b=1.0)
    assert float(got.error.max()) <= 1e-3
    assert int(got.iterations.max()) <= 150


def test_masses_of_all_sizes_and_few_columns() -> None:
    # A row that is split between columns holds them in place; on the plateaus between, no step sees where to go.
    # From such a plateau it goes back up.
    for rows, columns, seed in ((20, 8, 0), (20, 2, 1), (12, 3, 2)):
        generator = torch.Generator().manual_seed(seed)
        cost = torch.rand(16, rows, columns, generator=generator)
        a, b = (torch.randn(16, size, generator=generator).mul(3).softmax(1) for size in (rows, columns))
        for epsilon in (1e-3, 1e-6):
            got = sinkhorn(cost, epsilon, a=a, b=b)
            assert float(got.error.max()) <= 1e-3


def test_rho_far_below_epsilon_does_not_overflow() -> None:
    cost = costly(5, 17, 4)
    for rho_a, rho_b in ((0.02, None), (None, 0.02), (0.02, 0.02)):
        got = sinkhorn(cost, 6e-5, rho_a=rho_a, rho_b=rho_b)
        for found in (got.plan, got.value, got.error, got.potentials):
            assert bool(found.isfinite().all())
        assert float(got.error.max()) <= 1e-3


def test_the_smaller_marginal_is_solved_for() -> None:
    cost = cosine(3, 40, 6)
    tall, wide = sinkhorn(cost, 1e-3), sinkhorn(cost.mT, 1e-3)
    torch.testing.assert_close(tall.value, wide.value, rtol=0, atol=2e-6)
    assert float((tall.plan.mT - wide.plan).abs().sum((1, 2)).max()) < 4e-3
    assert float(wide.error.max()) <= 1e-3
    assert int((tall.iterations - wide.iterations).abs().max()) == 0  # the same system


def test_overrelaxation_takes_fewer_iterations_than_the_paper() -> None:
    cost = ties(8, 64, 32).double()
    got = sinkhorn(cost, 0.1, tolerance=1e-4)
    kernel, plain = (-cost / 0.1).exp(), torch.zeros(8, dtype=torch.long)
    v = torch.ones(8, 32, dtype=torch.float64)
    for count in range(1, 101):
        v = 1 / (kernel.mT @ (1 / (kernel @ v[:, :, None]) / 64))[:, :, 0]
        plan = kernel * v[:, None] / (kernel @ v[:, :, None]) / 64
        plain = torch.where((plain == 0) & ((plan.sum(1) - 1 / 32).abs().sum(1) <= 1e-4), count, plain)
    assert int(got.iterations.max()) < PATIENCE
    assert bool((got.iterations < 0.8 * plain + EVERY).all())
    assert int(got.iterations.sum()) < 0.8 * int(plain.sum())


def test_overflow_in_scaling_iterations_is_recovered() -> None:
    cost = 2 * cosine(3, 12, 8)
    huge = {"a": torch.full((3, 12), 1e35 / 12), "b": torch.full((3, 8), 1e35 / 8)}
    got, usual = sinkhorn(cost, 0.04, **huge, tolerance=1e32), sinkhorn(cost, 0.04, tolerance=1e-3)
    assert float(got.error.max()) <= 1e32
    torch.testing.assert_close(got.plan / 1e35, usual.plan, rtol=0, atol=2e-3)


def test_newton_finishes_slow_sinkhorn_iterations() -> None:
    cost = ties(8, 64, 32)
    epsilon = float((cost.amax() - cost.amin()) / (0.95 * REACH))
    got = sinkhorn(cost, epsilon, tolerance=1e-4)
    assert int(got.iterations.max()) > PATIENCE
    assert int(got.iterations.max()) < PATIENCE + 15
    assert float(got.error.max()) <= 1.1e-4  # the plan is float32
    done = got.iterations <= PATIENCE
    assert bool((got.iterations[done] % EVERY == 0).all())
    for most in (PATIENCE, PATIENCE + 1):
        kept = sinkhorn(cost, epsilon, tolerance=1e-4, max_iterations=most)
        assert kept.iterations[~done].tolist() == [most] * int((~done).sum())
    kept = sinkhorn(cost, epsilon, tolerance=1e-4, max_iterations=PATIENCE)
    assert float(kept.error[~done].min()) > 1e-4


def test_unconverged_problems_are_reported() -> None:
    got = sinkhorn(cosine(2, 64, 32), 1e-4, max_iterations=8)
    assert got.iterations.tolist() == [8, 8]
    assert float(got.error.min()) > 1e-3
    torch.testing.assert_close(got.error, (got.plan.sum(1) - 1 / 32).abs().sum(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("common", [0.0, 30.0])
@pytest.mark.parametrize("rho", [None, 0.2, 0.01])
def test_every_step_increases_the_dual_value(rho: float | None, common: float) -> None:
    """The dual objective never falls at one epsilon, however far the start: steps are shortened by what they reach."""
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand(16, 9, 7, generator=generator, dtype=torch.float64)
    problems = clean(cost, 0.01, (None, None), (None, None), (rho, rho))
    # Columns apart from each other, or all of them too low: where mass may be lost, that reaches far too.
    start = torch.randn(16, 7, generator=generator, dtype=torch.float64) * (1.0 if common else 30.0) - common

    def dual(y: Tensor) -> Tensor:
        x = problems.rows_from(y)
        phi = (lambda t: t) if rho is None else (lambda t: -torch.expm1(-0.01 / rho * t) * rho / 0.01)
        return phi(x).mean(1) + phi(y).mean(1) - problems.plan(x, y).sum((1, 2))

    def lacks(y: Tensor) -> tuple[Tensor, Tensor]:
        plan = problems.fit(y)[1]
        return plan, problems.wanted(y) - plan.sum(1)

    y = start
    for _ in range(30):
        plan, missing = lacks(y)
        after = y + newton_step(problems, y, plan, missing)
        gain = dual(after) - dual(y)
        assert bool((gain >= -1e-9).all())
        assert bool((gain[missing.abs().sum(1) > 1e-3] > 0).all())
        y = after
    assert float(lacks(y)[1].abs().sum(1).max()) < 0.5 * float(lacks(start)[1].abs().sum(1).max())


def test_at_the_iteration_limit_the_best_solution_at_the_final_epsilon_is_returned() -> None:
    cost = cosine(4, 20, 3, seed=1).double()
    a, b = (
        torch.randn(4, size, generator=torch.Generator().manual_seed(1)).mul(3).softmax(1).double() for size in (20, 3)
    )
    errors = []
    for most in (30, 60, 90, 120):  # among them such as end on the way back up
        got = sinkhorn(cost, 1e-5, a=a, b=b, tolerance=0.0, max_iterations=most)
        assert got.iterations.tolist() == [most] * 4
        errors.append(got.error)
    for before, after in pairwise(errors):
        assert bool((after <= before + 1e-9).all())


def test_newton_stops_at_once_at_the_solution() -> None:
    problems = clean(cosine(3, 12, 5).double(), 1e-3, (None, None), (None, None), (None, None))
    y, taken = descend(problems, None, 1e-9, 200)
    assert int(taken.min()) > 5
    again, none = descend(problems, y, 1e-8, 200)
    assert none.tolist() == [0, 0, 0]
    torch.testing.assert_close(again, y, rtol=0, atol=0)
