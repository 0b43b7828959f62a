"""Transport of a part of the mass."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional import partial_sinkhorn, sinkhorn
from tests.gradients import gradcheck_of_problems
from tests.reference import transport as reference

MODES = ["implicit", "envelope", "last_step", "unrolled"]
EXACT: dict[str, Any] = {"tolerance": 1e-13, "max_iterations": 3000}


def costs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def masses(*shape: int, seed: int = 1) -> Tensor:
    return costs(*shape, seed=seed).add(0.2).log().softmax(-1)


@pytest.mark.parametrize("epsilon", [0.5, 0.05, 0.012])  # the last by Newton's method
@pytest.mark.parametrize("mass", [0.2, 0.9, 1.0])
def test_plan_and_value_equal_the_definition_written_as_loops(epsilon: float, mass: float) -> None:
    cost, a, b = costs(2, 5, 3), masses(2, 5), 1.5 * masses(2, 3, seed=2)
    got = partial_sinkhorn(cost, epsilon, mass * (1 - 1e-9), a=a, b=b, **EXACT)
    for k in range(2):
        numbers = cost[k].numpy(), epsilon, a[k].tolist(), b[k].tolist()
        plan, value = reference.partial_sinkhorn(*numbers, mass * (1 - 1e-9))
        torch.testing.assert_close(got.plan[k], torch.from_numpy(plan), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(float(got.value[k]), value, rtol=1e-8, atol=1e-9)
    assert float(got.error.max()) < 1e-12


@pytest.mark.parametrize("epsilon", [0.1, 1e-3])
def test_partial_transport_moves_the_stated_mass_within_the_marginals(epsilon: float) -> None:
    cost, a, b = costs(4, 9, 6), 2 * masses(4, 9), masses(4, 6, seed=2)
    mass = torch.tensor([0.05, 0.4, 0.8, 1.0], dtype=torch.float64)
    got = partial_sinkhorn(cost, epsilon, mass, a=a, b=b, tolerance=1e-10, max_iterations=500)
    torch.testing.assert_close(got.plan.sum((1, 2)), mass, rtol=0, atol=1e-9)
    assert float((got.plan.sum(2) - a).max()) <= 1e-12
    assert float((got.plan.sum(1) - b).max()) <= 1e-9
    assert float(got.plan.min()) >= 0.0
    loose = partial_sinkhorn(cost, epsilon, mass, a=a, b=b)
    assert float((loose.plan.sum((1, 2)) - mass).abs().max()) <= float(loose.error.max()) <= 1e-3
    assert float((loose.plan.sum(1) - b).max()) <= 1e-3


@pytest.mark.parametrize("mass", [0.3, 0.75])
def test_small_epsilon_equals_the_exact_solvers(mass: float) -> None:
    cost, a, b = costs(3, 8, 6), masses(3, 8), masses(3, 6, seed=2)
    got = partial_sinkhorn(cost, 1e-4, mass, a=a, b=b, tolerance=1e-9, max_iterations=500)
    for k in range(3):
        sides = a[k].numpy(), b[k].numpy(), cost[k].numpy()
        moved = float((got.plan[k] * cost[k]).sum())
        assert moved == pytest.approx(reference.exact(sides[2], *sides[:2], mass), abs=1e-4 * math.log(48))
    ot = pytest.importorskip("ot")
    for k in range(3):
        plan = ot.partial.partial_wasserstein(a[k].numpy(), b[k].numpy(), cost[k].numpy(), m=mass)
        moved = float((got.plan[k] * cost[k]).sum())
        assert moved == pytest.approx(float((plan * cost[k].numpy()).sum()), abs=1e-4 * math.log(48))
        assert float(np.abs(plan - got.plan[k].numpy()).sum()) < 0.05


@pytest.mark.parametrize("epsilon", [0.1, 2e-3])
def test_partial_transport_of_all_mass_is_the_balanced_problem(epsilon: float) -> None:
    cost, a, b = costs(3, 8, 6), masses(3, 8), masses(3, 6, seed=2)
    whole = sinkhorn(cost, epsilon, a=a, b=b, **EXACT)
    got = partial_sinkhorn(cost, epsilon, 1.0, a=a, b=b, **EXACT)
    torch.testing.assert_close(got.plan, whole.plan, rtol=1e-7, atol=1e-11)
    torch.testing.assert_close(got.value, whole.value, rtol=1e-9, atol=1e-11)
    # Default masses in float32, whose sums round.
    cost = cost[:, :7].float()
    got, whole = partial_sinkhorn(cost, epsilon, 1.0), sinkhorn(cost, epsilon)
    torch.testing.assert_close(got.plan, whole.plan, rtol=0, atol=2e-3)
    assert float(got.error.max()) <= 1e-3


def test_the_largest_scores_enter_the_support_first_and_constants_cancel() -> None:
    cost = torch.tensor([[[0.0, 1.0, 1.0], [1.0, 0.2, 1.0], [1.0, 1.0, 0.4]]], dtype=torch.float64)
    for mass, diagonal in ((1 / 6, [1 / 6, 0, 0]), (0.5, [1 / 3, 1 / 6, 0]), (0.9, [1 / 3, 1 / 3, 0.9 - 2 / 3])):
        got = partial_sinkhorn(cost, 2e-3, mass, **EXACT)
        torch.testing.assert_close(got.plan[0], torch.tensor(diagonal).double().diag(), rtol=0, atol=1e-6)
        for shift in (5.0, -5.0):
            shifted = partial_sinkhorn(cost + shift, 2e-3, mass, **EXACT)
            torch.testing.assert_close(shifted.plan, got.plan, rtol=0, atol=1e-9)
            torch.testing.assert_close(shifted.value, got.value + shift * mass, rtol=0, atol=1e-9)
    turned = partial_sinkhorn(cost.mT + torch.tensor([0.0, 0.1, 0.3]), 0.05, 0.6, **EXACT)
    straight = partial_sinkhorn(cost + torch.tensor([0.0, 0.1, 0.3])[:, None], 0.05, 0.6, **EXACT)
    torch.testing.assert_close(turned.plan.mT, straight.plan, rtol=0, atol=1e-11)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("epsilon", [0.2, 0.004])
def test_padding_has_no_influence(gradient: str, epsilon: float) -> None:
    cost, sizes = torch.full((3, 7, 6), math.nan, dtype=torch.float64), [(4, 3), (7, 2), (1, 6)]
    mask_a, mask_b = torch.zeros(3, 7, dtype=torch.bool), torch.zeros(3, 6, dtype=torch.bool)
    for k, (rows, columns) in enumerate(sizes):
        cost[k, :rows, :columns] = costs(rows, columns, seed=k)
        mask_a[k, :rows] = mask_b[k, :columns] = True
    named: dict[str, Any] = {"gradient": gradient, "max_iterations": 300}
    cost, mass = cost.requires_grad_(), torch.tensor([0.3, 0.5, 0.9], dtype=torch.float64)
    whole = partial_sinkhorn(cost, epsilon, mass, mask_a=mask_a, mask_b=mask_b, **named)
    (slopes,) = torch.autograd.grad(whole.value.sum(), cost)
    for k, (rows, columns) in enumerate(sizes):
        part = cost.detach()[k : k + 1, :rows, :columns].requires_grad_()
        alone = partial_sinkhorn(part, epsilon, float(mass[k]), **named)
        assert whole.iterations[k] == alone.iterations[0]
        torch.testing.assert_close(whole.plan[k, :rows, :columns], alone.plan[0], rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(whole.value[k], alone.value[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(whole.potentials[k, :columns], alone.potentials[0], rtol=1e-8, atol=1e-11)
        (slope,) = torch.autograd.grad(alone.value.sum(), part)
        torch.testing.assert_close(slopes[k, :rows, :columns], slope[0], rtol=1e-6, atol=1e-11)
        outside = torch.ones(7, 6, dtype=torch.bool)
        outside[:rows, :columns] = False
        assert float(whole.plan.detach()[k][outside].abs().sum()) == float(slopes[k][outside].abs().sum()) == 0.0
        assert float(whole.potentials[k, columns:].abs().sum()) == 0.0


@pytest.mark.parametrize(("gradient", "epsilon"), [*((gradient, 0.3) for gradient in MODES), ("implicit", 0.015)])
def test_gradients_by_finite_differences(gradient: str, epsilon: float) -> None:
    named: dict[str, Any] = {"gradient": gradient, "tolerance": 1e-12, "max_iterations": 300}

    def solve(cost: Tensor, epsilon: Tensor, mass: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        got = partial_sinkhorn(cost, epsilon, mass, a=a.softmax(1), b=b.softmax(1), **named)
        return (got.value, got.plan) if gradient in ("implicit", "unrolled") else (got.value,)

    inputs = [costs(2, 4, 3), torch.tensor([epsilon, 0.5]).double(), torch.tensor([0.4, 0.8]).double()]
    inputs += [costs(2, 4, seed=4), costs(2, 3, seed=5)]
    gradcheck_of_problems(solve, inputs, eps=1e-7 if epsilon < 0.1 else 1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("epsilon", [0.1, 1e-3, 1e-5])
def test_single_tokens_empty_sides_and_empty_batches_are_finite_in_float32(gradient: str, epsilon: float) -> None:
    mask = torch.tensor([[True] * 5, [False] * 5, [True] + [False] * 4])
    for constant in (False, True):
        cost = costs(3, 4, 5, dtype=torch.float32) * (0.0 if constant else 1.0) + 0.3
        got = partial_sinkhorn(cost.requires_grad_(), epsilon, 0.5, mask_b=mask, gradient=gradient)
        loss = got.value.sum() + (got.plan.square().sum() if got.plan.requires_grad else 0.0)
        (slope,) = torch.autograd.grad(loss, cost)
        assert bool(slope.isfinite().all())
        torch.testing.assert_close(got.plan.sum((1, 2)), torch.tensor([0.5, 0.0, 0.5]), rtol=0, atol=1e-3)
        for found in (got.plan[1], got.value[1], got.error[1], slope[1], got.iterations[1], got.potentials[1]):
            assert float(found.detach().abs().sum()) == 0.0
    for shape in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
        none = partial_sinkhorn(torch.zeros(shape), epsilon, 0.5, gradient=gradient)
        assert none.plan.shape == shape
        assert float(none.value.detach().abs().sum()) == 0.0


@pytest.mark.parametrize("epsilon", [0.1, 0.004])
@pytest.mark.parametrize("mass", [0.6, 1.0])
def test_a_good_start_needs_fewer_iterations_and_the_solution_none(epsilon: float, mass: float) -> None:
    cost = costs(3, 12, 7)
    cost[:, 0, 0] = 3.0
    cold = partial_sinkhorn(cost, epsilon, mass)
    for shift in (0.0, 2.0):  # the potentials are those at which staying costs nothing
        warm = partial_sinkhorn(cost + shift, epsilon, mass, start=cold.potentials + shift)
        assert warm.iterations.tolist() == [0, 0, 0]
        torch.testing.assert_close(warm.plan, cold.plan, rtol=1e-8, atol=1e-12)
    near = cost + 0.03 * epsilon * costs(3, 12, 7, seed=1)
    near[:, 0, 0] = 5.0  # where nothing goes in either: but the middle of the costs is another
    named: dict[str, Any] = {"tolerance": 1e-6, "max_iterations": 500}
    start = partial_sinkhorn(cost, epsilon, mass, **named).potentials
    cold, warm = (
        partial_sinkhorn(near, epsilon, mass, **named),
        partial_sinkhorn(near, epsilon, mass, start=start, **named),
    )
    # Multiplications are looked at every so often: some end at the same look.
    assert bool((warm.iterations <= cold.iterations).all())
    assert int(warm.iterations.sum()) < (0.9 if epsilon > 0.05 else 0.5) * int(cold.iterations.sum())
    torch.testing.assert_close(warm.plan, cold.plan, rtol=0, atol=1e-5)


def test_half_precision_is_widened() -> None:
    cost = costs(2, 5, 4, dtype=torch.bfloat16)
    wide = partial_sinkhorn(cost.float(), 0.05, 0.5)
    torch.testing.assert_close(partial_sinkhorn(cost, 0.05, 0.5), wide)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(partial_sinkhorn(cost, 0.05, 0.5), wide, rtol=0, atol=0)


def test_mass_out_of_range_is_an_error() -> None:
    cost = costs(2, 3, 4)
    for mass, match in (
        (1.1, "at most that of the rows and the columns"),
        (0.0, "above 0"),
        (-1.0, "above 0"),
        (math.nan, "above 0"),
    ):
        with pytest.raises(UserError, match=match):
            partial_sinkhorn(cost, 0.1, mass)
    with pytest.raises(UserError, match="in problem 1"):
        partial_sinkhorn(cost, 0.1, torch.tensor([0.5, 1.5]))
    with pytest.raises(UserError, match="one per problem"):
        partial_sinkhorn(cost, 0.1, torch.ones(3))
    with pytest.raises(UserError, match="gradient"):
        partial_sinkhorn(cost, 0.1, 0.5, gradient="exact")  # type: ignore[arg-type]
