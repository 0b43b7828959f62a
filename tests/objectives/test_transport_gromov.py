"""Transport that keeps distances."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmalign.errors import UserError
from mmalign.objectives.functional import fused_gromov, sinkhorn
from tests.reference import transport as reference

EXACT: dict[str, Any] = {"tolerance": 1e-11, "rounds": 2000, "max_iterations": 2000}


def problem(batch: int, rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Costs, and distances of points in the plane; those of the rows have a direction too."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(batch, size, 2, generator=generator, dtype=torch.float64) for size in (rows, columns))
    cost = torch.rand(batch, rows, columns, generator=generator, dtype=torch.float64)
    return cost, torch.cdist(a, a), torch.cdist(b, b)


def masses(batch: int, size: int) -> Tensor:
    return torch.rand(batch, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64).softmax(1)


@pytest.mark.parametrize(
    ("epsilon", "alpha", "skew"), [(0.1, 1.0, 0.3), (0.02, 0.5, 0.3), (0.02, 0.5, 0.0), (0.1, 0.0, 0)]
)
def test_equals_pot_from_the_same_start(epsilon: float, alpha: float, skew: float) -> None:
    ot = pytest.importorskip("ot")
    cost, near, far = problem(2, 8, 6)
    near = near + skew * near.triu()  # distances that differ there and back
    a, b = masses(2, 8), masses(2, 6)
    outer = a[:, :, None] * b[:, None]
    got = fused_gromov(cost, near, far, epsilon, alpha, a=a, b=b, start=outer, **EXACT)
    for k in range(2):
        arrays = [tensor[k].numpy() for tensor in (cost, near, far, a, b)]
        wanted = ot.gromov.entropic_fused_gromov_wasserstein(
            *arrays, epsilon=epsilon, alpha=alpha, tol=1e-10, max_iter=1000, stopThr=1e-11, numItermax=5000
        )
        torch.testing.assert_close(got.plan[k], torch.from_numpy(wanted), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("epsilon", [0.1, 0.01])
def test_the_value_is_that_of_the_plan_and_no_small_change_is_better(epsilon: float) -> None:
    cost, near, far = problem(2, 6, 5)
    near = near + 0.3 * near.triu()
    alpha = torch.tensor([0.3, 1.0], dtype=torch.float64)
    got = fused_gromov(cost, near, far, epsilon, alpha, **EXACT)
    assert float(got.error.max()) <= 1e-10
    assert int(got.iterations.max()) < EXACT["rounds"]

    def value(k: int, plan: Tensor) -> float:
        arrays = [tensor[k].numpy() for tensor in (cost, near, far, plan[None].expand(2, -1, -1))]
        return reference.gromov(*arrays, float(alpha[k])) + epsilon * float((plan * (plan * 30).log()).sum())

    generator = torch.Generator().manual_seed(3)
    for k in range(2):
        least = value(k, got.plan[k])
        assert least == pytest.approx(float(got.value[k]), abs=1e-9)
        for _ in range(10):
            way = torch.rand(6, 5, generator=generator, dtype=torch.float64).mul(0.2).exp() * got.plan[k]
            other = sinkhorn(-way.log()[None], 1.0, tolerance=1e-13, max_iterations=2000).plan[0]  # the same marginals
            step = got.plan[k] + 1e-3 * (other - got.plan[k])
            assert value(k, step) >= least - 1e-10


def test_alpha_0_is_sinkhorn_and_alpha_1_does_not_see_the_cost() -> None:
    cost, near, far = problem(2, 6, 5)
    torch.testing.assert_close(fused_gromov(cost, near, far, 0.1, 0.0)[:3], sinkhorn(cost, 0.1)[:3])
    ours, other = (fused_gromov(given, near, far, 0.1, 1.0) for given in (cost, 1 - cost))
    torch.testing.assert_close(ours.plan, other.plan, rtol=0, atol=0)


def test_a_shape_is_found_again_however_it_is_numbered() -> None:
    cost, near, _ = problem(4, 7, 7, seed=1)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    turned = near[:, order][:, :, order]
    hint = 1 - torch.eye(7, dtype=torch.float64)[order].mT.expand(4, -1, -1)  # row order[j] belongs to column j
    got = fused_gromov(hint + 0.2 * cost, near, turned, 5e-3, 0.5)
    for k in range(4):
        assert got.plan[k].argmax(0).tolist() == order.tolist()
    swapped = fused_gromov((hint + 0.2 * cost).mT, turned, near, 5e-3, 0.5, **EXACT)
    straight = fused_gromov(hint + 0.2 * cost, near, turned, 5e-3, 0.5, **EXACT)
    torch.testing.assert_close(swapped.plan.mT, straight.plan, rtol=0, atol=1e-8)


def test_gradients_by_finite_differences() -> None:
    cost, near, far = problem(2, 4, 3)

    def solve(cost: Tensor, near: Tensor, far: Tensor, epsilon: Tensor, alpha: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return fused_gromov(cost, near, far, epsilon, alpha, a=a.softmax(1), b=b.softmax(1), **EXACT).value

    numbers = [torch.tensor(pair, dtype=torch.float64) for pair in ([0.5, 0.3], [0.2, 0.7])]
    inputs = [cost, near, far, *numbers, masses(2, 4), masses(2, 3)]
    assert torch.autograd.gradcheck(solve, [t.clone().requires_grad_() for t in inputs], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gradient", ["envelope", "last_step"])
def test_padding_is_never_seen_and_a_problem_depends_on_itself_alone(gradient: str) -> None:
    sizes = [(4, 3), (6, 2), (1, 5), (0, 5)]
    cost, near, far = (torch.full(shape, math.nan).double() for shape in ((4, 6, 5), (4, 6, 6), (4, 5, 5)))
    mask_a, mask_b = torch.zeros(4, 6, dtype=torch.bool), torch.zeros(4, 5, dtype=torch.bool)
    for k, (rows, columns) in enumerate(sizes):
        parts = problem(1, rows, columns, seed=k)
        cost[k, :rows, :columns], near[k, :rows, :rows], far[k, :columns, :columns] = (part[0] for part in parts)
        mask_a[k, :rows] = mask_b[k, :columns] = True
    alpha = torch.tensor([0.2, 0.9, 0.5, 0.5], dtype=torch.float64)
    leaves = [tensor.clone().requires_grad_() for tensor in (cost, near, far)]
    whole = fused_gromov(*leaves, 0.05, alpha, mask_a=mask_a, mask_b=mask_b, gradient=gradient)  # type: ignore[arg-type]
    loss = whole.value.sum() + (whole.plan.square().sum() if gradient == "last_step" else 0.0)
    slopes = torch.autograd.grad(loss, leaves)
    for found in (whole.plan[3], whole.value[3], whole.error[3], whole.iterations[3]):
        assert float(found.detach().abs().sum()) == 0.0
    for k, (rows, columns) in enumerate(sizes[:3]):
        cut = [(rows, columns), (rows, rows), (columns, columns)]
        parts = [t.detach()[k : k + 1, :i, :j].clone().requires_grad_() for t, (i, j) in zip(leaves, cut, strict=True)]
        alone = fused_gromov(*parts, 0.05, float(alpha[k]), gradient=gradient)  # type: ignore[arg-type]
        assert alone.iterations[0] == whole.iterations[k]
        torch.testing.assert_close(whole.plan[k, :rows, :columns], alone.plan[0], rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(whole.value[k], alone.value[0], rtol=1e-9, atol=1e-12)
        loss = alone.value.sum() + (alone.plan.square().sum() if gradient == "last_step" else 0.0)
        for slope, mine, (i, j) in zip(slopes, torch.autograd.grad(loss, parts), cut, strict=True):
            torch.testing.assert_close(slope[k, :i, :j], mine[0], rtol=1e-6, atol=1e-11)
            assert float(slope[k, i:].abs().sum() + slope[k, :, j:].abs().sum()) == 0.0


def test_float32_half_precision_and_empty_batches() -> None:
    cost, near, far = (tensor.float() for tensor in problem(2, 5, 4))
    wide = fused_gromov(cost.double(), near.double(), far.double(), 0.1)
    got = fused_gromov(cost, near, far, 0.1)
    assert got.plan.dtype == torch.float32
    torch.testing.assert_close(got.plan, wide.plan.float(), rtol=1e-3, atol=1e-4)
    half = fused_gromov(cost.bfloat16(), near.bfloat16(), far.bfloat16(), 0.1)
    assert half.plan.dtype == torch.float32
    for shape in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
        zeros = [torch.zeros(shape[0], i, j) for i, j in (shape[1:], (shape[1],) * 2, (shape[2],) * 2)]
        assert float(fused_gromov(*zeros, 0.1).value.abs().sum()) == 0.0


def test_a_finished_problem_is_left_alone_and_rounds_stop_where_told() -> None:
    cost, near, far = problem(3, 6, 5)
    got = fused_gromov(cost, near, far, 0.05, torch.tensor([0.0, 0.5, 1.0]), tolerance=1e-8)
    assert got.iterations[0] == 1
    assert int(got.iterations[1:].min()) > 3
    assert fused_gromov(cost, near, far, 0.05, 0.5, tolerance=1e-8, rounds=2).iterations.tolist() == [2, 2, 2]
    again = fused_gromov(cost, near, far, 0.05, 0.5, tolerance=1e-6, start=got.plan)
    assert again.iterations[1] == 1
    np.testing.assert_allclose(again.plan[1], got.plan[1], atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    cost, near, far = problem(2, 3, 4)
    for named, match in [
        ({"distance_a": far}, "distance_a"),
        ({"distance_b": far[:1]}, "distance_b"),
        ({"distance_b": far * math.nan}, "finite"),
        ({"alpha": 1.5}, "between 0 and 1"),
        ({"alpha": torch.zeros(3)}, "one a problem"),
        ({"start": cost[:1]}, "start"),
        ({"gradient": "implicit"}, "gradient"),
        ({"rounds": 0}, "rounds"),
    ]:
        arguments: dict[str, Any] = {"cost": cost, "distance_a": near, "distance_b": far, "epsilon": 0.1} | named
        with pytest.raises(UserError, match=match):
            fused_gromov(**arguments)
