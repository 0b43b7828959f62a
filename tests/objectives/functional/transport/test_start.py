"""Potentials: what they are, and where they save iterations."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional import sinkhorn
from mmalign.objectives.functional.transport.sinkhorn import TransportPlan
from mmalign.objectives.functional.transport.solver import EVERY


def costs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


CASES = [(0.1, None, None), (0.1, 0.3, 1.0), (0.005, None, None), (0.005, None, 0.5), (0.005, 0.2, None)]


@pytest.mark.parametrize(("epsilon", "rho_a", "rho_b"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_the_solution_no_iteration_is_needed(
    epsilon: float, rho_a: float | None, rho_b: float | None, dtype: torch.dtype
) -> None:
    cost, mask = costs(3, 12, 7, dtype=dtype), torch.ones(3, 7, dtype=torch.bool)
    mask[1, 2:] = False
    named: dict[str, Any] = {"mask_b": mask, "rho_a": rho_a, "rho_b": rho_b}
    cold = sinkhorn(cost, epsilon, **named)
    assert int(cold.iterations.min()) > 0
    assert float(cold.potentials[1, 2:].abs().sum()) == 0.0
    start = cold.potentials.masked_fill(~mask, math.nan)  # padded places are not read
    warm = sinkhorn(cost, epsilon, start=start, **named)
    assert warm.iterations.tolist() == [0, 0, 0]
    tight = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-13}
    for ours, theirs in zip((*warm[:3], warm.potentials), (*cold[:3], cold.potentials), strict=True):
        torch.testing.assert_close(ours, theirs, **tight)
    if rho_a is None and rho_b is None:  # a constant is not seen
        assert sinkhorn(cost, epsilon, start=start + 0.7, **named).iterations.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("rows", "columns"), [(24, 12), (12, 24)])
@pytest.mark.parametrize(("epsilon", "rho_a", "rho_b"), CASES)
def test_the_start_of_a_similar_problem_needs_fewer_iterations(
    epsilon: float, rho_a: float | None, rho_b: float | None, rows: int, columns: int
) -> None:
    cost = costs(8, rows, columns)
    named: dict[str, Any] = {"rho_a": rho_a, "rho_b": rho_b, "tolerance": 1e-6, "max_iterations": 500}
    start = sinkhorn(cost, epsilon, **named).potentials
    near = cost + 0.01 * epsilon * costs(8, rows, columns, seed=1)
    cold, warm = sinkhorn(near, epsilon, **named), sinkhorn(near, epsilon, start=start, **named)
    # Multiplications are looked at every so often: some end at the same look.
    assert bool((warm.iterations <= cold.iterations).all())
    assert int(warm.iterations.sum()) < (0.9 if epsilon > 0.05 else 0.5) * int(cold.iterations.sum())
    assert int(warm.iterations.min()) > 0
    assert float(warm.error.max()) <= 1e-6
    if rho_a is None and rho_b is None:  # the constant costs nothing either
        assert sinkhorn(near, epsilon, start=start + 50, **named).iterations.tolist() == warm.iterations.tolist()
    torch.testing.assert_close(warm.plan, cold.plan, rtol=0, atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.1, 0.005])
@pytest.mark.parametrize("rho", [None, 0.4])
def test_a_distant_start_gives_the_same_solution(epsilon: float, rho: float | None) -> None:
    cost = costs(4, 12, 7)
    named: dict[str, Any] = {"rho_a": rho, "rho_b": rho, "tolerance": 1e-9, "max_iterations": 400}
    cold = sinkhorn(cost, epsilon, **named)
    for scale in (1.0, 1e6):
        wild = sinkhorn(cost, epsilon, start=scale * (costs(4, 7, seed=5) - 0.5), **named)
        assert float(wild.error.max()) <= 1e-9
        torch.testing.assert_close(wild.plan, cold.plan, rtol=0, atol=1e-7)


def test_each_problem_has_its_own_start() -> None:
    cost = torch.cat([costs(2, 12, 7), 40 * costs(2, 12, 7, seed=1)])[[0, 2, 1, 3]]  # far ones between
    good = sinkhorn(cost, 0.1).potentials
    start = torch.where(torch.tensor([True, True, False, False])[:, None], good, 0.0)
    assert (sinkhorn(cost, 0.1, start=start).iterations == 0).tolist() == [True, True, False, False]


def test_potentials_are_the_gradient_of_the_value() -> None:
    cost = costs(2, 6, 4)
    for epsilon, rho in ((0.2, None), (0.2, 0.4), (0.01, None), (0.01, 0.4)):
        b = torch.full((2, 4), 0.25, dtype=torch.float64, requires_grad=True)
        got = sinkhorn(cost, epsilon, b=b, rho_a=rho, rho_b=rho, tolerance=1e-12, max_iterations=1000)
        (slope,) = torch.autograd.grad(got.value.sum(), b)
        assert not got.potentials.requires_grad
        if rho is None:  # up to a constant
            g = got.potentials
            torch.testing.assert_close(g - g[:, :1], slope - slope[:, :1], rtol=0, atol=1e-8)
        else:  # of rho KL(marginal | b) and epsilon KL(plan | a b^T)
            wanted = (rho + epsilon) * (1 - (-got.potentials / rho).exp())
            torch.testing.assert_close(slope, wanted, rtol=0, atol=1e-8)


def test_gradients_from_a_start_are_those_of_the_optimum() -> None:
    cost = costs(2, 6, 4).requires_grad_()
    slopes = []
    for epsilon in (0.2, 0.01):
        cold = sinkhorn(cost, epsilon, tolerance=1e-12, max_iterations=1000)
        start = cold.potentials.clone().requires_grad_()
        warm = sinkhorn(cost, epsilon, start=start, tolerance=1e-11)
        assert warm.iterations.tolist() == [0, 0]
        for got in (cold, warm):
            loss = got.plan.square().sum() + got.value.sum()
            slopes.append(torch.autograd.grad(loss, (cost, start), allow_unused=True))
        torch.testing.assert_close(slopes[-1][0], slopes[-2][0], rtol=1e-6, atol=1e-9)
        assert slopes[-1][1] is None


@pytest.mark.parametrize("epsilon", [0.1, 0.005])
def test_unrolled_iterations_begin_at_the_start(epsilon: float) -> None:
    cost = costs(3, 6, 4)
    start = sinkhorn(cost, epsilon, tolerance=1e-11, max_iterations=1000).potentials
    got = sinkhorn(cost, epsilon, start=start, gradient="unrolled")
    assert got.iterations.tolist() == [EVERY] * 3
    assert float(got.error.max()) <= 1e-9
    assert bool((sinkhorn(cost, epsilon, gradient="unrolled").iterations > EVERY).all())


@pytest.mark.parametrize("gradient", ["implicit", "envelope", "last_step", "unrolled"])
def test_empty_problems_accept_any_start(gradient: Any) -> None:
    for shape in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
        start = torch.ones(shape[0], shape[2])
        none = sinkhorn(torch.zeros(shape), 0.1, start=start, gradient=gradient)
        assert none.plan.shape == shape
        assert none.potentials.abs().sum() == none.value.abs().sum() == none.iterations.sum() == 0
    mask = torch.tensor([[True] * 4, [False] * 4])
    half = sinkhorn(costs(2, 3, 4), 0.1, mask_b=mask, start=torch.ones(2, 4), gradient=gradient)
    for found in (half.plan[1], half.value[1], half.error[1], half.iterations[1], half.potentials[1]):
        assert float(found.abs().sum()) == 0.0


def test_a_plan_has_four_fields_and_potentials() -> None:
    got = sinkhorn(costs(2, 3, 4), 0.1)
    assert isinstance(got, TransportPlan)
    plan, value, error, iterations = got
    assert plan.shape == (2, 3, 4)
    assert value.shape == error.shape == iterations.shape == (2,)
    assert got.potentials.shape == (2, 4)


def test_an_invalid_start_is_refused() -> None:
    cost = costs(2, 3, 4)
    for start, match in ((torch.zeros(2, 3), "shape"), (torch.full((2, 4), math.nan), "finite")):
        with pytest.raises(UserError, match=match):
            sinkhorn(cost, 0.1, start=start)
