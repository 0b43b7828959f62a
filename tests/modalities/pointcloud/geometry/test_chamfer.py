"""Chamfer distance against a loop in double precision."""

import math

import pytest
import torch
from torch import Tensor

from modalities.pointcloud.geometry import chamfer_distance
from tests.gradients import gradcheck


def clouds(batch: int, size: int, seed: int) -> Tensor:
    return torch.randn(batch, size, 3, generator=torch.Generator().manual_seed(seed))


def reference(a: list[list[float]], b: list[list[float]], norm: str) -> float:
    """The definition, point by point."""

    def one_way(left: list[list[float]], right: list[list[float]]) -> float:
        near = [min(math.dist(x, y) for y in right) for x in left]
        return sum(d**2 if norm == "l2" else d for d in near) / len(near)

    total = one_way(a, b) + one_way(b, a)
    return total if norm == "l2" else total / 2


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("size", [1, 30, 400])
def test_distance_equals_a_loop_in_float64(norm: str, size: int) -> None:
    a, b = clouds(3, 20, 1), clouds(3, size, 2)
    mask_a = torch.rand(3, 20, generator=torch.Generator().manual_seed(3)) < 0.7
    mask_b = torch.rand(3, size, generator=torch.Generator().manual_seed(4)) < 0.7
    mask_a[:, 0] = mask_b[:, 0] = True
    found = chamfer_distance(a, b, mask_a=mask_a, mask_b=mask_b, norm=norm)
    rows = zip(a.double(), b.double(), mask_a, mask_b, strict=True)
    expected = [reference(x[m].tolist(), y[n].tolist(), norm) for x, y, m, n in rows]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-5)
    swapped = chamfer_distance(b, a, mask_a=mask_b, mask_b=mask_a, norm=norm)
    torch.testing.assert_close(swapped, found)


def test_definitions_of_the_field() -> None:
    a, b = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]])
    torch.testing.assert_close(chamfer_distance(a, b), torch.tensor([1 + 2.5]))
    torch.testing.assert_close(chamfer_distance(a, b, norm="l1"), torch.tensor([(1 + 1.5) / 2]))
    assert chamfer_distance(b, b).item() == 0


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradient_equals_finite_differences(norm: str) -> None:
    a, b = clouds(2, 5, 1).double().requires_grad_(), clouds(2, 7, 2).double().requires_grad_()
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    assert gradcheck(lambda x, y: chamfer_distance(x, y, mask_b=mask, norm=norm), (a, b))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradient_is_finite_at_coincident_points(norm: str) -> None:
    a = clouds(2, 6, 1).requires_grad_()
    chamfer_distance(a, a.detach().clone(), norm=norm).sum().backward()
    assert a.grad is not None
    assert a.grad.eq(0).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_an_empty_cloud_has_distance_zero(norm: str) -> None:
    a, b = clouds(2, 6, 1).requires_grad_(), clouds(2, 4, 2)
    mask = torch.tensor([[True] * 4, [False] * 4])
    found = chamfer_distance(a, b, mask_b=mask, norm=norm)
    assert found[1].item() == 0
    found.sum().backward()
    assert a.grad is not None
    assert a.grad[1].eq(0).all()
    assert a.grad.isfinite().all()


def test_padding_is_never_read_and_low_precision_is_widened() -> None:
    a, b = clouds(2, 6, 1), clouds(2, 8, 2)
    padded = torch.cat([b, torch.full((2, 5, 3), torch.nan)], 1)
    mask = torch.arange(13).expand(2, 13) < 8
    torch.testing.assert_close(chamfer_distance(a, padded, mask_b=mask), chamfer_distance(a, b), atol=0, rtol=0)
    torch.testing.assert_close(chamfer_distance(padded, a, mask_a=mask), chamfer_distance(b, a), atol=0, rtol=0)
    half = chamfer_distance(a.bfloat16(), b.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, chamfer_distance(a.bfloat16().float(), b.bfloat16().float()), atol=0, rtol=0)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a norm of l2, l1, got 'l3'"):
        chamfer_distance(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), norm="l3")
