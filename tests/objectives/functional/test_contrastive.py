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
from mmalign.objectives.functional import clip_loss, siglip_loss
from mmalign.objectives.functional.computing import tiled_logsumexp as tiles
from tests.gradients import gradcheck
from tests.reference import contrastive as reference

Loss = Callable[..., Tensor]


def units(rows: int, dim: int = 6, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def dense_clip(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    logits, labels = scale * a @ b.T, torch.arange(len(a))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def dense_siglip(a: Tensor, b: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    signs = 2 * torch.eye(len(a), dtype=a.dtype) - 1
    return -F.logsigmoid(signs * (scale * a @ b.T + bias)).sum() / len(a)


@pytest.fixture
def tile(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda side: monkeypatch.setitem(tiles.TILE, "cpu", side)


@pytest.fixture(params=["one exponential", "maximum of each tile"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of summing exponentials; the second is what GPUs and far-spread logits take."""
    if request.param != "one exponential":
        monkeypatch.setattr(tiles, "_shared_shift", lambda x, y: None)
    return str(request.param)


GROUPS = {
    "pairs": ([0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]),
    "permuted pairs": ([0, 1, 2, 3, 4, 5, 6], [6, 2, 0, 1, 5, 4, 3]),
    "several": ([7, 7, -1, 3, 3, 3, 9], [7, 3, -1, -1, 7, 9, 3]),
    "not square": ([1, 2, 3], [3, 3, 1, 1, 2]),
    "some without positive": ([0, 0, 1, 8], [1, 0, 9, 9, 0, 1]),
    "all equal": ([5, 5, 5], [5, 5, 5, 5]),
    "one": ([4], [4]),
    "none": ([0, 1], [2, 3, 4]),
}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("side", [1, 3, 64])
@pytest.mark.parametrize("scale", [0.0, 1 / 0.07, 100.0, 3000.0])
def test_equal_the_papers_written_as_loops(
    groups: tuple[list[int], list[int]], side: int, scale: float, tile: Callable[[int], None], path: str
) -> None:
    tile(side)
    in_a, in_b = torch.tensor(groups[0]), torch.tensor(groups[1])
    a, b = units(len(in_a)), units(len(in_b), seed=1)
    clip = clip_loss(a, b, scale, groups_a=in_a, groups_b=in_b)
    siglip = siglip_loss(a, b, scale, -2.0, groups_a=in_a, groups_b=in_b)
    expected_clip = reference.clip_loss(a.numpy(), b.numpy(), scale, *groups)
    expected_siglip = reference.siglip_loss(a.numpy(), b.numpy(), scale, -2.0, *groups)
    torch.testing.assert_close(float(clip), expected_clip, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(float(siglip), expected_siglip, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    groups_a=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    groups_b=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    side=st.integers(1, 10),
    scale=st.floats(0.0, 200.0),
    bias=st.floats(-20.0, 20.0),
)
def test_any_groups_and_tiles(groups_a: list[int], groups_b: list[int], side: int, scale: float, bias: float) -> None:
    a, b = units(len(groups_a), seed=2), units(len(groups_b), seed=3)
    given = {"groups_a": torch.tensor(groups_a), "groups_b": torch.tensor(groups_b)}
    before = tiles.TILE["cpu"]
    tiles.TILE["cpu"] = side
    try:
        clip, siglip = clip_loss(a, b, scale, **given), siglip_loss(a, b, scale, bias, **given)
    finally:
        tiles.TILE["cpu"] = before
    wanted = reference.clip_loss(a.numpy(), b.numpy(), scale, groups_a, groups_b)
    torch.testing.assert_close(float(clip), wanted, rtol=1e-11, atol=1e-11)
    wanted = reference.siglip_loss(a.numpy(), b.numpy(), scale, bias, groups_a, groups_b)
    torch.testing.assert_close(float(siglip), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("side", [4, 100])
@pytest.mark.parametrize("groups", [None, "several", "not square", "some without positive"])
def test_gradients_by_finite_differences(groups: str | None, side: int, tile: Callable[[int], None], path: str) -> None:
    tile(side)
    named = (
        {} if groups is None else dict(zip(("groups_a", "groups_b"), map(torch.tensor, GROUPS[groups]), strict=True))
    )
    rows, columns = (5, 5) if groups is None else (len(named["groups_a"]), len(named["groups_b"]))
    a, b = units(rows, 3).requires_grad_(), units(columns, 3, seed=1).requires_grad_()
    scale = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    inputs = (a, b, scale, bias)
    assert gradcheck(lambda a, b, s, z: clip_loss(a, b, s, bias=z, **named), inputs)
    assert gradcheck(lambda a, b, s, z: siglip_loss(a, b, s, z, **named), inputs)


@pytest.mark.parametrize("scale", [14.0, 100.0])
def test_float32_gradients_are_those_of_the_whole_matrix(scale: float, tile: Callable[[int], None], path: str) -> None:
    tile(19)
    a, b = units(50, 16), units(50, 16, seed=1)
    for ours, dense, extra in [(clip_loss, dense_clip, []), (siglip_loss, dense_siglip, [-4.0])]:
        results = []
        for loss, dtype in [(ours, torch.float32), (dense, torch.float64)]:
            inputs = [t.to(dtype, copy=True).requires_grad_() for t in (a, b, *map(torch.tensor, [scale, *extra]))]
            value = loss(*inputs)
            results.append([value.detach(), *torch.autograd.grad(value, inputs)])
        for got, wanted in zip(*results, strict=True):
            torch.testing.assert_close(got.double(), wanted, rtol=2e-5, atol=2e-5)


def test_closed_forms() -> None:
    same = torch.ones(8, 4) / 2  # identical unit vectors: every logit is the scale
    for scale in (0.0, 1.0, 100.0):
        torch.testing.assert_close(clip_loss(same, same, scale), torch.tensor(math.log(8)))
    torch.testing.assert_close(siglip_loss(same, same, 100.0, -100.0), torch.tensor(8 * math.log(2)))
    # 7 wrong questions a row answered yes with logit 90, one right: 7 * 90
    torch.testing.assert_close(siglip_loss(same, same, 100.0, -10.0), torch.tensor(630.0))
    eye = torch.eye(5)
    expected = math.log(math.exp(3) + 4) - 3
    torch.testing.assert_close(clip_loss(eye, eye, 3.0), torch.tensor(expected))


def test_random_vectors_begin_at_log_n_and_aligned_ones_end_at_zero() -> None:
    a, b = units(512, 256, dtype=torch.float32), units(512, 256, dtype=torch.float32, seed=1)
    torch.testing.assert_close(clip_loss(a, b, 1.0), torch.tensor(math.log(512)), rtol=1e-2, atol=0.0)
    assert float(clip_loss(a, a, 100.0)) < 1e-6


@pytest.mark.parametrize("groups", [None, torch.tensor([0, 0, 1, 2, 2, 2, 5])])
def test_towers_can_be_exchanged_and_rows_permuted(groups: Tensor | None, tile: Callable[[int], None]) -> None:
    tile(3)
    a, b, order = units(7), units(7, seed=1), torch.tensor([3, 0, 6, 2, 1, 5, 4])

    def values(a: Tensor, b: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
        named = {"groups_a": groups, "groups_b": groups}
        return clip_loss(a, b, 9.0, **named), siglip_loss(a, b, 9.0, -2.0, **named)

    here = values(a, b, groups)
    torch.testing.assert_close(values(b, a, groups), here, rtol=1e-13, atol=1e-13)
    shuffled = values(a[order], b[order], None if groups is None else groups[order])
    torch.testing.assert_close(shuffled, here, rtol=1e-13, atol=1e-13)


def test_groups_of_one_are_no_groups() -> None:
    names = torch.tensor([40, 3, -7, 12, 2**40])
    results = []
    for groups in (None, names):
        a, b = units(5).requires_grad_(), units(5, seed=1).requires_grad_()
        named = {"groups_a": groups, "groups_b": groups}
        loss = clip_loss(a, b, 10.0, **named) + siglip_loss(a, b, 10.0, -1.0, **named)
        results.append([loss.detach(), *torch.autograd.grad(loss, (a, b))])
    for plain, grouped in zip(*results, strict=True):
        torch.testing.assert_close(grouped, plain, rtol=1e-13, atol=1e-13)


def test_a_batch_of_one_and_a_batch_without_positives_run_backward() -> None:
    a, b = units(1).requires_grad_(), units(1, seed=1).requires_grad_()
    loss = clip_loss(a, b, 100.0)
    loss.backward()
    torch.testing.assert_close(float(loss.detach()), 0.0, atol=1e-13, rtol=0.0)
    assert a.grad is not None
    torch.testing.assert_close(a.grad, torch.zeros_like(a), atol=1e-12, rtol=0.0)

    a, b = units(2).requires_grad_(), units(3, seed=1).requires_grad_()
    named = {"groups_a": torch.tensor([0, 1]), "groups_b": torch.tensor([2, 3, 4])}
    loss = clip_loss(a, b, 100.0, **named)
    loss.backward()
    assert float(loss.detach()) == 0.0
    torch.testing.assert_close(a.grad, torch.zeros_like(a))
    siglip_loss(a, b, 100.0, 0.0, **named).backward()
    assert a.grad.abs().sum() > 0  # to SigLIP they are negatives, and count


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 3), (3, 0)])
def test_an_empty_tower_gives_zero_with_a_graph(rows: int, columns: int, path: str) -> None:
    a, b = units(rows).requires_grad_(), units(columns).requires_grad_()
    named = {"groups_a": torch.zeros(rows, dtype=torch.long), "groups_b": torch.zeros(columns, dtype=torch.long)}
    for loss in (clip_loss(a, b, 10.0, **named), siglip_loss(a, b, 10.0, 1.0, **named)):
        loss.backward()
        assert float(loss.detach()) == 0.0
        for side in (a, b):
            torch.testing.assert_close(side.grad, torch.zeros_like(side))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_half_precision_at_extreme_scale_is_finite(dtype: torch.dtype, scale: float) -> None:
    same = torch.ones(9, 4, dtype=dtype) / 2
    for a, b in [(same, same), (same, -same), (units(9, 4, dtype=dtype), units(9, 4, dtype=dtype, seed=1))]:
        a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
        for loss in (clip_loss(a, b, scale), siglip_loss(a, b, scale, -10.0)):
            loss.backward()
            assert loss.dtype == torch.float32
            assert loss.isfinite()
            assert a.grad.isfinite().all()
            assert b.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    a, b = units(40, 32, dtype=torch.float32), units(40, 32, dtype=torch.float32, seed=1)
    groups = torch.arange(40) // 2

    def run() -> list[Tensor]:
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        scale = torch.tensor(30.0, requires_grad=True)
        named = {"groups_a": groups, "groups_b": groups}
        loss = clip_loss(x, y, scale, **named) + siglip_loss(x, y, scale, -3.0, **named)
        return [loss.detach(), *torch.autograd.grad(loss, (x, y, scale))]

    outside = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run()
    for left, right in zip(inside, outside, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


def test_rows_with_low_scores_keep_their_precision() -> None:
    # One exponential shared by all logits loses this row altogether: its logits are near -300, the largest 300.
    a, b = units(6, 4), units(6, 4, seed=1)
    b = F.normalize(torch.ones(6, 4, dtype=torch.float64) + 0.02 * b, dim=1)
    a = torch.cat([b[:5], -b[5:]])
    expected = reference.clip_loss(a.numpy(), b.numpy(), 300.0, range(6), range(6))
    narrow = [t.float().requires_grad_() for t in (a, b)]
    wide = [t.clone().requires_grad_() for t in (a, b)]
    loss = clip_loss(narrow[0], narrow[1], 300.0)
    torch.testing.assert_close(float(loss.detach()), expected, rtol=1e-4, atol=1e-4)
    wanted = torch.autograd.grad(dense_clip(wide[0], wide[1], 300.0), wide)
    for got, want in zip(torch.autograd.grad(loss, narrow), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


class Watch(TorchDispatchMode):
    """The largest tensor made, and how many matrix products."""

    largest = 0
    products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.products += "mm" in str(func)
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


def _step(loss: Loss, groups: Tensor | None, *extra: float) -> Watch:
    a, b = units(512, 4, dtype=torch.float32).requires_grad_(), units(512, 4, dtype=torch.float32, seed=1)
    b.requires_grad_()
    with Watch() as watch:
        result = loss(a, b, 10.0, *extra, groups_a=groups, groups_b=groups)
        if torch.is_grad_enabled():
            result.backward()
    return watch


@pytest.mark.parametrize("groups", [None, torch.arange(512) // 3])
def test_no_matrix_of_pairs_is_allocated(groups: Tensor | None, tile: Callable[[int], None], path: str) -> None:
    tile(32)
    clip, siglip = _step(clip_loss, groups), _step(siglip_loss, groups, -5.0)
    assert max(clip.largest, siglip.largest) <= 512 * 4  # the vectors themselves; all pairs would be 512 * 512
    assert clip.products == 4 * 16 * 16
    assert siglip.products == 3 * 16 * 16
    with torch.no_grad():
        assert _step(clip_loss, groups).products == _step(siglip_loss, groups, -5.0).products == 16 * 16


def test_a_frozen_tower_needs_no_matrix_product_in_backward(tile: Callable[[int], None]) -> None:
    tile(64)
    a, b = units(64, 4).requires_grad_(), units(64, 4, seed=1)
    with Watch() as watch:
        clip_loss(a, b, 10.0).backward()
    assert watch.products == 3
    assert b.grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("loss", [lambda a, b: clip_loss(a, b, 10.0), lambda a, b: siglip_loss(a, b, 10.0, 0.0)])
def test_nan_and_infinity_are_refused(bad: float, loss: Loss) -> None:
    a = units(4)
    a[2, 1] = bad
    with pytest.raises(UserError, match="NaN or infinity"):
        loss(a, units(4, seed=1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    a, b, groups = units(3), units(4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(UserError, match="3 rows and 4 columns"):
        clip_loss(a, b, 1.0)
    with pytest.raises(UserError, match="together"):
        siglip_loss(a, b, 1.0, 0.0, groups_a=groups)
    with pytest.raises(UserError, match="one group per row"):
        clip_loss(a, b, 1.0, groups_a=groups, groups_b=groups)
    with pytest.raises(UserError, match="one width"):
        clip_loss(a, units(3, 5), 1.0)


@pytest.mark.parametrize("loss", [clip_loss, siglip_loss])
def test_a_second_derivative_is_refused_rather_than_wrong(loss: Loss) -> None:
    a, b = units(3).requires_grad_(), units(3, seed=1).requires_grad_()
    extra = [] if loss is clip_loss else [0.0]
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(loss(a, b, 5.0, *extra), a, create_graph=True)


def test_the_scale_may_be_a_number_or_a_tensor_of_another_type() -> None:
    a, b = units(4, dtype=torch.float32), units(4, dtype=torch.float32, seed=1)
    half = torch.tensor([8.0], dtype=torch.bfloat16)
    torch.testing.assert_close(clip_loss(a, b, half), clip_loss(a, b, 8.0))
    torch.testing.assert_close(siglip_loss(a, b, half, half), siglip_loss(a, b, 8.0, 8.0))
    assert clip_loss(a.double(), b, 8.0).dtype == torch.float64


def test_siglip_refuses_an_infinite_row_with_products_far_below_zero() -> None:
    a = torch.ones(2, 2)
    a[1, 0] = -math.inf
    with pytest.raises(UserError, match="NaN or infinity"):
        siglip_loss(a, a, 1.0, 0.0)
