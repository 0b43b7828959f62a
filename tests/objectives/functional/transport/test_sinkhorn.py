import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional import sinkhorn
from tests.gradients import gradcheck, gradcheck_of_problems
from tests.reference import transport as reference

MODES = ["implicit", "envelope", "last_step", "unrolled"]
EXACT: dict[str, Any] = {"tolerance": 1e-13, "max_iterations": 3000}


def costs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def masses(*shape: int, seed: int = 1) -> Tensor:
    return costs(*shape, seed=seed).add(0.2).log().softmax(-1)


@pytest.mark.parametrize(("rho_a", "rho_b"), [(None, None), (0.3, 2.0), (None, 0.5), (0.05, None)])
@pytest.mark.parametrize("epsilon", [0.5, 0.05, 0.012])  # the last in the log domain, from a larger epsilon down
def test_plan_and_value_equal_the_paper_written_as_loops(
    epsilon: float, rho_a: float | None, rho_b: float | None
) -> None:
    cost, a, b = costs(2, 5, 3), masses(2, 5), masses(2, 3, seed=2)
    got = sinkhorn(cost, epsilon, a=a, b=b, rho_a=rho_a, rho_b=rho_b, **EXACT)
    for k in range(2):
        inf = math.inf
        plan, value = reference.sinkhorn(
            cost[k].numpy(), epsilon, a[k].tolist(), b[k].tolist(), rho_a or inf, rho_b or inf
        )
        torch.testing.assert_close(got.plan[k], torch.from_numpy(plan), rtol=1e-8, atol=1e-11)
        torch.testing.assert_close(float(got.value[k]), value, rtol=1e-8, atol=1e-11)
    assert float(got.error.max()) < 1e-12


def test_equals_pot() -> None:
    ot = pytest.importorskip("ot")
    cost, a, b = costs(4, 8, 6), masses(4, 8), masses(4, 6, seed=2)
    plan = sinkhorn(cost, 0.05, a=a, b=b, **EXACT).plan
    for k in range(4):
        wanted = ot.sinkhorn(a[k].numpy(), b[k].numpy(), cost[k].numpy(), 0.05, numItermax=20000, stopThr=1e-13)
        torch.testing.assert_close(plan[k], torch.from_numpy(wanted), rtol=1e-8, atol=1e-11)
    small = sinkhorn(cost, 1e-3, a=a, b=b, max_iterations=3000).plan
    for k in range(4):
        exact = float(np.sum(ot.emd(a[k].numpy(), b[k].numpy(), cost[k].numpy()) * cost[k].numpy()))
        assert float((small[k] * cost[k]).sum()) - exact < 1e-3 * math.log(48) + 1e-3


def test_closed_forms() -> None:
    # A Dirac on one side: the mass has one place to go to.
    cost, b = costs(1, 1, 4), masses(1, 4)
    got = sinkhorn(cost, 0.1, b=b, **EXACT)
    torch.testing.assert_close(got.plan[:, 0], b)
    torch.testing.assert_close(got.value, (cost[:, 0] * b).sum(1))
    # 2 x 2 with even masses: off the diagonal by the odds exp(-(c12 + c21 - c11 - c22) / (2 epsilon)).
    cost = costs(1, 2, 2)
    odds = math.exp(-float(cost[0, 0, 1] + cost[0, 1, 0] - cost[0, 0, 0] - cost[0, 1, 1]) / (2 * 0.3))
    diagonal = 0.5 / (1 + odds)
    wanted = torch.tensor([[[diagonal, 0.5 - diagonal], [0.5 - diagonal, diagonal]]], dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(cost, 0.3, **EXACT).plan, wanted)
    # A permutation hidden in the cost is found at small epsilon.
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    hidden = torch.eye(7, dtype=torch.float64)[order]
    got = sinkhorn((1 - hidden)[None], 1e-3, **EXACT)
    torch.testing.assert_close(got.plan[0], hidden / 7)
    torch.testing.assert_close(float(got.value[0]), 1e-3 * math.log(7))  # KL of 1/7 against 1/49
    # Unbalanced, one point each: P = exp(-C / (epsilon + 2 rho)).
    got = sinkhorn(torch.tensor([[[0.7]]], dtype=torch.float64), 0.1, rho_a=0.4, rho_b=0.4, **EXACT)
    torch.testing.assert_close(float(got.plan[0, 0, 0]), math.exp(-0.7 / 0.9))


def test_a_large_rho_is_an_exact_marginal_and_a_small_one_moves_nothing() -> None:
    cost = costs(2, 4, 5)
    exact = sinkhorn(cost, 0.1, **EXACT)
    torch.testing.assert_close(sinkhorn(cost, 0.1, rho_a=1e7, rho_b=1e7, **EXACT).plan, exact.plan, rtol=1e-5, atol=0)
    assert float(sinkhorn(cost + 1, 1e-2, rho_a=1e-2, rho_b=1e-2, **EXACT).plan.sum()) < 1e-10


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    epsilon=st.floats(0.01, 2.0),
    shift=st.floats(-50.0, 50.0),
    seed=st.integers(0, 99),
)
def test_plan_is_nonnegative_with_the_given_marginals(
    rows: int, columns: int, epsilon: float, shift: float, seed: int
) -> None:
    cost, a, b = costs(1, rows, columns, seed=seed), masses(1, rows, seed=seed), masses(1, columns, seed=seed + 1)
    named = {"tolerance": 1e-10, "max_iterations": 20000}
    got = sinkhorn(cost, epsilon, a=a, b=b, **named)
    assert float(got.error) <= 1e-10
    assert bool((got.plan >= 0).all())
    torch.testing.assert_close(got.plan.sum(2), a)
    torch.testing.assert_close(got.plan.sum(1), b, rtol=0, atol=1e-9)
    turned = sinkhorn(cost.mT, epsilon, a=b, b=a, **named)
    torch.testing.assert_close(turned.plan.mT, got.plan, rtol=0, atol=1e-8)
    torch.testing.assert_close(turned.value, got.value, rtol=0, atol=1e-8)
    shifted = sinkhorn(cost + shift, epsilon, a=a, b=b, **named)
    torch.testing.assert_close(shifted.plan, got.plan, rtol=0, atol=1e-8)
    torch.testing.assert_close(shifted.value, got.value + shift, rtol=0, atol=1e-8)
    order = torch.randperm(rows)
    permuted = sinkhorn(cost[:, order], epsilon, a=a[:, order], b=b, **named)
    torch.testing.assert_close(permuted.plan, got.plan[:, order], rtol=0, atol=1e-8)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("rho", [None, 0.4])
@pytest.mark.parametrize("epsilon", [0.3, 0.015])
def test_gradients_by_finite_differences(gradient: str, rho: float | None, epsilon: float) -> None:
    mask_b = torch.tensor([[True] * 4, [True, True, False, True]])
    named: dict[str, Any] = {"gradient": gradient, "tolerance": 1e-12, "max_iterations": 600}

    def solve(cost: Tensor, a: Tensor, b: Tensor, epsilon: Tensor) -> tuple[Tensor, ...]:
        mask = mask_b.repeat_interleave(len(b) // 2, dim=0)
        b = b.masked_fill(~mask, -math.inf).softmax(1)
        got = sinkhorn(cost, epsilon, a=a.softmax(1), b=b, rho_a=rho, rho_b=rho, mask_b=mask, **named)
        # The plan has the right gradient at the optimum alone; of the others it is not asked here.
        return (got.value, got.plan) if gradient in ("implicit", "unrolled") else (got.value,)

    inputs = [costs(2, 3, 4), costs(2, 3, seed=4), costs(2, 4, seed=5), torch.tensor([epsilon, 0.5]).double()]
    gradcheck_of_problems(solve, inputs, eps=1e-7 if epsilon < 0.1 else 1e-6, atol=1e-5, rtol=1e-4)


def test_gradient_of_rho() -> None:
    rho = torch.tensor([0.3, 1.0], dtype=torch.float64, requires_grad=True)
    cost = costs(2, 3, 4)

    def solve(rho: Tensor) -> tuple[Tensor, Tensor]:
        got = sinkhorn(cost, 0.2, rho_a=rho, rho_b=2.0, tolerance=0.0)
        return got.value, got.plan

    assert gradcheck(solve, rho)


@pytest.mark.parametrize("gradient", ["implicit", "envelope", "last_step"])
def test_the_gradient_of_the_value_is_the_plan(gradient: str) -> None:
    cost = costs(3, 5, 4).requires_grad_()
    got = sinkhorn(cost, 0.1, max_iterations=1, gradient=gradient)  # however far from the end
    (slope,) = torch.autograd.grad(got.value.sum(), cost)
    torch.testing.assert_close(slope, got.plan)


def test_gradient_last_step_differentiates_one_iteration_and_envelope_none() -> None:
    cost, weights = costs(1, 4, 3).requires_grad_(), costs(1, 4, 3, seed=9)
    got = sinkhorn(cost, 0.2, gradient="last_step", **EXACT)
    slope = torch.autograd.grad((got.plan * weights).sum(), cost)[0]
    with torch.no_grad():  # the column potentials that give this plan, up to a constant
        y = (got.plan[:, 0] * 3 * 4).log() + cost[:, 0] / 0.2
    x = -(y[:, None] - cost / 0.2 - math.log(3)).logsumexp(2)
    y = -(x[:, :, None] - cost / 0.2 - math.log(4)).logsumexp(1)
    x = -(y[:, None] - cost / 0.2 - math.log(3)).logsumexp(2)
    plan = (x[:, :, None] + y[:, None] - cost / 0.2).exp() / 12
    torch.testing.assert_close(plan, got.plan)
    torch.testing.assert_close(slope, torch.autograd.grad((plan * weights).sum(), cost)[0], rtol=1e-7, atol=1e-9)
    assert not sinkhorn(cost, 0.2, gradient="envelope").plan.requires_grad


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("epsilon", [0.2, 0.004])
@pytest.mark.parametrize("rho", [None, 0.5])
def test_padding_has_no_influence(gradient: str, epsilon: float, rho: float | None) -> None:
    cost, sizes = torch.full((3, 7, 6), math.nan, dtype=torch.float64), [(4, 3), (7, 2), (1, 6)]
    mask_a, mask_b = torch.zeros(3, 7, dtype=torch.bool), torch.zeros(3, 6, dtype=torch.bool)
    for k, (rows, columns) in enumerate(sizes):
        cost[k, :rows, :columns] = costs(rows, columns, seed=k)
        cost[k, rows:, :] = math.inf
        mask_a[k, :rows] = mask_b[k, :columns] = True
    order = torch.tensor([6, 1, 2, 3, 4, 5, 0])  # pads may stand before real rows
    cost, mask_a = cost[:, order].requires_grad_(), mask_a[:, order]
    named: dict[str, Any] = {"rho_a": rho, "rho_b": rho, "gradient": gradient, "max_iterations": 300}
    whole = sinkhorn(cost, epsilon, mask_a=mask_a, mask_b=mask_b, **named)
    loss = whole.value.sum() + ((whole.plan**2).sum() if whole.plan.requires_grad else 0.0)
    (slopes,) = torch.autograd.grad(loss, cost)
    for k in range(3):
        at = (mask_a[k].nonzero(), mask_b[k].nonzero()[:, 0])
        part = cost.detach()[k][at][None].requires_grad_()
        alone = sinkhorn(part, epsilon, **named)
        torch.testing.assert_close(whole.plan[k][at], alone.plan[0], rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(whole.value[k], alone.value[0], rtol=1e-9, atol=1e-13)
        assert whole.iterations[k] == alone.iterations[0]
        loss = alone.value.sum() + ((alone.plan**2).sum() if alone.plan.requires_grad else 0.0)
        (slope,) = torch.autograd.grad(loss, part)
        torch.testing.assert_close(slopes[k][at], slope[0], rtol=1e-6, atol=1e-11)
        outside = torch.ones(7, 6, dtype=torch.bool)
        outside[at] = False
        assert float(whole.plan.detach()[k][outside].abs().sum()) == float(slopes[k][outside].abs().sum()) == 0.0


@pytest.mark.parametrize("rho", [None, 2.0])
def test_the_choice_of_solver_ignores_padding(rho: float | None) -> None:
    # Far from zero, or of another size: what padding holds must not count as a cost.
    cost = torch.zeros(2, 6, 5, dtype=torch.float64)
    cost[0, :4, :3], cost[1] = 20 + costs(4, 3), 20 + costs(6, 5, seed=1)
    mask_a, mask_b = torch.ones(2, 6, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    mask_a[0, 4:] = mask_b[0, 3:] = False
    named: dict[str, Any] = {"rho_a": rho, "rho_b": rho, "tolerance": 1e-9}
    for epsilon in (0.2, 0.5):
        whole = sinkhorn(cost, epsilon, mask_a=mask_a, mask_b=mask_b, **named)
        alone = sinkhorn(cost[:1, :4, :3], epsilon, **named)
        assert whole.iterations[0] == alone.iterations[0]
        torch.testing.assert_close(whole.plan[:1, :4, :3], alone.plan, rtol=1e-12, atol=0)


@pytest.mark.parametrize("gradient", MODES)
def test_the_score_of_a_pair_does_not_depend_on_other_pairs(gradient: str) -> None:
    cost = costs(5, 6, 4)
    cost[3] *= 40  # this one takes the log domain, and long
    epsilon = torch.tensor([0.05, 0.3, 0.08, 0.05, 0.02], dtype=torch.float64)
    together = sinkhorn(cost, epsilon, gradient=gradient)
    assert len(together.iterations.unique()) > 2
    for k in range(5):
        alone = sinkhorn(cost[k : k + 1], epsilon[k : k + 1], gradient=gradient)
        for ours, theirs in zip(alone, together, strict=True):
            torch.testing.assert_close(ours[0], theirs[k], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("gradient", MODES)
@pytest.mark.parametrize("rho", [None, 0.5])
@pytest.mark.parametrize("epsilon", [0.1, 1e-3])
def test_an_empty_marginal_gives_a_zero_plan_and_gradient(gradient: str, rho: float | None, epsilon: float) -> None:
    cost = costs(3, 4, 5, dtype=torch.float32).requires_grad_()
    mask_a, mask_b = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 5, dtype=torch.bool)
    mask_a[0], mask_b[1] = False, False
    got = sinkhorn(cost, epsilon, mask_a=mask_a, mask_b=mask_b, rho_a=rho, rho_b=rho, gradient=gradient)
    loss = got.value.sum() + (got.plan.square().sum() if got.plan.requires_grad else 0.0)
    (slope,) = torch.autograd.grad(loss, cost)
    for k in (0, 1):
        for found in (got.plan[k], got.value[k], got.error[k], slope[k], got.iterations[k]):
            assert float(found.detach().abs().sum()) == 0.0
    assert bool(slope.isfinite().all())
    assert float(got.plan[2].detach().sum()) > 0.0
    for shape in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
        none = sinkhorn(torch.zeros(shape), 0.1, rho_a=rho, rho_b=rho, gradient=gradient)
        assert none.plan.shape == shape
        assert float(none.value.detach().abs().sum()) == 0.0


def test_a_row_without_mass_is_treated_as_padding() -> None:
    cost, a = costs(1, 4, 3).requires_grad_(), torch.tensor([[0.5, 0.0, 0.25, 0.25]], dtype=torch.float64)
    got = sinkhorn(cost, 0.1, a=a, **EXACT)
    got.plan.square().sum().backward()
    keep = [0, 2, 3]
    torch.testing.assert_close(got.plan[:, keep], sinkhorn(cost.detach()[:, keep], 0.1, a=a[:, keep], **EXACT).plan)
    assert float(got.plan[:, 1].detach().abs().sum()) == float(cost.grad[:, 1].abs().sum()) == 0.0
    assert bool(cost.grad.isfinite().all())


@pytest.mark.parametrize("gradient", MODES)
def test_small_epsilon_large_cost_and_one_point_are_finite_in_float32(gradient: str) -> None:
    for scale, epsilon in [(2.0, 1e-3), (1e4, 0.05), (0.0, 1e-3)]:
        for shape in [(1, 1, 1), (1, 6, 1), (2, 6, 5)]:
            cost = (costs(*shape, dtype=torch.float32) * scale).requires_grad_()
            got = sinkhorn(cost, epsilon, gradient=gradient)
            loss = got.value.sum() + (got.plan.square().sum() if got.plan.requires_grad else 0.0)
            (slope,) = torch.autograd.grad(loss, cost)
            assert bool(slope.isfinite().all())
            assert bool(got.plan.isfinite().all())
            torch.testing.assert_close(got.plan.sum((1, 2)), torch.ones(shape[0]), rtol=5e-3, atol=0.0)


@pytest.mark.parametrize("gradient", MODES)
def test_a_large_constant_cost_loses_no_precision_in_float32(gradient: str) -> None:
    # Identical vectors: all costs are the same, and the plan is the product.
    cost = torch.full((2, 6, 5), 700.0).requires_grad_()
    got = sinkhorn(cost, 1e-4, gradient=gradient)
    torch.testing.assert_close(got.plan, torch.full((2, 6, 5), 1 / 30), rtol=1e-5, atol=0)
    torch.testing.assert_close(got.value, torch.full((2,), 700.0))
    (slope,) = torch.autograd.grad(got.value.sum(), cost)
    torch.testing.assert_close(slope, torch.full((2, 6, 5), 1 / 30), rtol=1e-5, atol=0)
    bumpy = torch.randint(0, 8, (2, 6, 5), generator=torch.Generator().manual_seed(0)) / 256
    high = sinkhorn(1024 + bumpy, 1e-3, gradient=gradient)  # no digit of the cost itself is lost
    low = sinkhorn(bumpy, 1e-3, gradient=gradient)
    torch.testing.assert_close(high.plan, low.plan, rtol=1e-4, atol=1e-7)
    assert high.iterations.tolist() == low.iterations.tolist()


def test_the_error_is_the_marginal_error_of_the_plan_and_iterations_are_limited() -> None:
    cost = costs(3, 8, 8)
    got = sinkhorn(cost, 0.02, max_iterations=7, tolerance=1e-9)
    assert got.iterations.tolist() == [7, 7, 7]
    torch.testing.assert_close(got.error, (got.plan.sum(1) - 1 / 8).abs().sum(1))
    assert float(got.error.min()) > 1e-9
    for gradient in MODES:
        assert sinkhorn(cost, 1e-4, max_iterations=3, gradient=gradient).iterations.tolist() == [3, 3, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_autocast_changes_nothing(dtype: torch.dtype) -> None:
    cost = costs(2, 5, 4, dtype=dtype)
    wide = sinkhorn(cost.float(), 0.05)
    torch.testing.assert_close(sinkhorn(cost, 0.05), wide)

    def slope() -> Tensor:
        leaf = cost.float().requires_grad_()
        return torch.autograd.grad(sinkhorn(leaf, 0.05).plan.square().sum(), leaf)[0]

    outside = slope()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for here, there in zip(sinkhorn(cost.float(), 0.05), wide, strict=True):
            torch.testing.assert_close(here, there, rtol=0, atol=0)
        torch.testing.assert_close(slope(), outside, rtol=0, atol=0)


def test_float32_gradients_are_those_of_float64() -> None:
    cost, weights = costs(4, 16, 8), costs(4, 16, 8, seed=2)
    slopes = []
    for dtype in (torch.float32, torch.float64):
        leaf = cost.to(dtype, copy=True).requires_grad_()
        plan = sinkhorn(leaf, 0.05, tolerance=1e-6, max_iterations=1000).plan
        slopes.append(torch.autograd.grad((plan * weights.to(dtype)).sum(), leaf)[0].double())
    torch.testing.assert_close(slopes[0], slopes[1], rtol=2e-3, atol=2e-5)


def test_invalid_problems_are_errors() -> None:
    cost = costs(2, 3, 4)
    nan = cost.clone()
    nan[0, 1, 1] = math.nan
    uneven = torch.full((2, 3), 1 / 3).double()
    for named, match in [
        ({"cost": cost[0]}, "batch, rows, columns"),
        ({"cost": nan}, "finite"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": torch.ones(3)}, "one per problem"),
        ({"rho_a": -1.0}, "rho_a"),
        ({"a": -uneven}, "at least 0"),
        ({"a": 2 * uneven}, "same mass"),
        ({"a": uneven[:1]}, "shape"),
        ({"mask_b": torch.ones(2, 3, dtype=torch.bool)}, "mask_b"),
        ({"mask_a": torch.ones(2, 3)}, "True and False"),
        ({"gradient": "exact"}, "gradient"),
        ({"max_iterations": 0}, "max_iterations"),
    ]:
        arguments: dict[str, Any] = {"cost": cost, "epsilon": 0.1} | named
        with pytest.raises(UserError, match=match):
            sinkhorn(arguments.pop("cost"), arguments.pop("epsilon"), **arguments)


@pytest.mark.parametrize("gradient", ["implicit", "envelope", "last_step"])
def test_a_second_derivative_is_refused_rather_than_wrong(gradient: str) -> None:
    cost = costs(1, 3, 3).requires_grad_()
    got = sinkhorn(cost, 0.1, gradient=gradient)
    for result in got[:2]:
        if result.requires_grad:
            with pytest.raises(UserError, match="second derivative"):
                torch.autograd.grad(result.sum(), cost, create_graph=True)
