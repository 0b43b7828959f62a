import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmalign.errors import UserError
from mmalign.objectives.functional import clip_loss, one_to_k_loss
from mmalign.objectives.functional.computing import tiled_logsumexp as tiles
from tests.gradients import gradcheck
from tests.reference import one_to_k as reference


def units(rows: int, dim: int = 6, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1).to(dtype)


@pytest.fixture
def tile(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda side: monkeypatch.setitem(tiles.TILE, "cpu", side)


OWNERS = {
    "two each": (3, [0, 0, 1, 1, 2, 2]),
    "ragged, any order": (4, [3, 0, 3, 1, 3, 0, 2]),
    "some own nothing": (5, [1, 1, 4, 1]),
    "one row": (1, [0, 0, 0]),
    "one pair": (1, [0]),
}


@pytest.mark.parametrize("owners", OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("side", [2, 64])
@pytest.mark.parametrize("scale", [0.0, 1 / 0.07, 300.0])
@pytest.mark.parametrize("normalise", [True, False])
def test_equals_the_paper_written_as_loops(
    owners: tuple[int, list[int]], side: int, scale: float, normalise: bool, tile: Callable[[int], None]
) -> None:
    tile(side)
    rows, owner = owners
    a, b = units(rows), units(len(owner), seed=1)
    got = one_to_k_loss(a, b, scale, torch.tensor(owner), normalise=normalise)
    wanted = reference.one_to_k_loss(a.numpy(), b.numpy(), scale, owner, normalise)
    torch.testing.assert_close(float(got), wanted, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(owner=st.lists(st.integers(0, 4), min_size=1, max_size=9), scale=st.floats(0.0, 100.0), normalise=st.booleans())
def test_any_assignment_of_captions(owner: list[int], scale: float, normalise: bool) -> None:
    a, b = units(5, seed=2), units(len(owner), seed=3)
    got = one_to_k_loss(a, b, scale, torch.tensor(owner), normalise=normalise)
    wanted = reference.one_to_k_loss(a.numpy(), b.numpy(), scale, owner, normalise)
    torch.testing.assert_close(float(got), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("normalise", [True, False])
def test_one_caption_a_row_is_clip(normalise: bool) -> None:
    for owner in (torch.arange(7), torch.tensor([6, 2, 0, 1, 5, 4, 3])):
        results = []
        for clip in (False, True):
            a, b = units(7).requires_grad_(), units(7, seed=1).requires_grad_()
            scale = torch.tensor([9.0], dtype=torch.float64, requires_grad=True)
            if clip:
                loss = clip_loss(a, b, scale, groups_a=torch.arange(7), groups_b=owner)
            else:
                loss = one_to_k_loss(a, b, scale, owner, normalise=normalise)
            results.append([loss.detach(), *torch.autograd.grad(loss, (a, b, scale))])
        for ours, clips in zip(*results, strict=True):
            torch.testing.assert_close(ours, clips, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_positives_compete_so_the_minimum_is_k_log_k(k: int) -> None:
    a, owner = torch.eye(4).double(), torch.arange(4).repeat_interleave(k)
    found = one_to_k_loss(a, a[owner], 200.0, owner, normalise=False)
    torch.testing.assert_close(float(found), k * math.log(k) / 2, atol=1e-12, rtol=1e-12)  # back is 0
    torch.testing.assert_close(float(one_to_k_loss(a, a[owner], 200.0, owner)), math.log(k) / 2, atol=1e-12, rtol=1e-12)
    for seed in range(5):
        a, b = units(4, seed=seed), units(4 * k, seed=seed + 10)
        assert float(one_to_k_loss(a, b, 20.0, owner, normalise=False)) >= k * math.log(k) / 2


def test_equal_k_for_all_rows_divides_the_loss_by_k() -> None:
    a, b, owner = units(4), units(12, seed=1), torch.arange(4).repeat(3)
    whole = one_to_k_loss(a, b, 7.0, owner, normalise=False)
    torch.testing.assert_close(one_to_k_loss(a, b, 7.0, owner), whole / 3, rtol=1e-12, atol=0.0)


def test_the_order_of_b_and_rows_without_captions_change_nothing_but_the_mean() -> None:
    a, b, owner = units(4), units(7, seed=1), torch.tensor([3, 0, 3, 1, 3, 0, 2])
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    here, there = one_to_k_loss(a, b, 9.0, owner), one_to_k_loss(a, b[order], 9.0, owner[order])
    torch.testing.assert_close(there, here, rtol=1e-13, atol=1e-13)
    eye, of = torch.eye(3), torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(one_to_k_loss(eye, eye[of], 100.0, of), torch.tensor(math.log(2) / 2))
    # It is a candidate all the same: a copy of row 0 takes half of each of row 0's columns, log 2 more on half of b.
    copied = torch.cat([eye[:2], eye[:1]])
    more = (math.log(2) + math.log(2) / 2 / 2) / 2
    torch.testing.assert_close(one_to_k_loss(copied, eye[of], 100.0, of), torch.tensor(more))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("name", ["two each", "ragged, any order", "some own nothing"])
def test_gradients_by_finite_differences(name: str, normalise: bool, tile: Callable[[int], None]) -> None:
    tile(3)
    rows, owner = OWNERS[name]
    a, b = units(rows, 3).requires_grad_(), units(len(owner), 3, seed=1).requires_grad_()
    scale = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    of = torch.tensor(owner)
    assert gradcheck(lambda a, b, s: one_to_k_loss(a, b, s, of, normalise=normalise), (a, b, scale))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_no_owned_rows_give_zero_with_a_graph(rows: int) -> None:
    a, b = units(rows).requires_grad_(), units(0).requires_grad_()
    loss = one_to_k_loss(a, b, 10.0, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not a.grad.any()


def test_half_precision_and_autocast() -> None:
    a, b, owner = units(4), units(8, seed=1), torch.arange(4).repeat(2)
    results = []
    for inside in (False, True):
        x, y = a.to(torch.bfloat16).requires_grad_(), b.to(torch.bfloat16).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            loss = one_to_k_loss(x, y, 30.0, owner)
            results.append([loss.detach(), *torch.autograd.grad(loss, (x, y))])
        assert loss.dtype == torch.float32
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


class Watch(TorchDispatchMode):
    """The largest tensor made."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


def test_no_matrix_of_pairs_is_allocated(tile: Callable[[int], None]) -> None:
    tile(32)
    a, b = units(200, 4).requires_grad_(), units(600, 4, seed=1).requires_grad_()
    with Watch() as watch:
        one_to_k_loss(a, b, 10.0, torch.arange(200).repeat(3)).backward()
    assert watch.largest <= 600 * 4


def test_invalid_arguments_are_errors() -> None:
    a, b, owner = units(3), units(4, seed=1), torch.tensor([0, 1, 2, 2])
    bad = b.clone()
    bad[1, 1] = math.nan
    for arguments, match in [
        ((a, units(4, 5), 1.0, owner), "one width"),
        ((a, b, 1.0, owner[:3]), "an integer for each of the 4"),
        ((a, b, 1.0, owner.double()), "an integer"),
        ((a, b, 1.0, owner > 0), "an integer"),
        ((a, b, 1.0, owner + 1), "0 to 2, got 1 to 3"),
        ((a, b, 1.0, owner - 1), "0 to 2, got -1 to 1"),
        ((a, bad, 1.0, owner), "NaN or infinity"),
    ]:
        with pytest.raises(UserError, match=match):
            one_to_k_loss(*arguments)
