import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmalign.errors import UserError
from mmalign.objectives.functional import late_interaction
from mmalign.objectives.functional.computing import tiled_logsumexp as tiles
from tests.gradients import gradcheck
from tests.reference import late_interaction as reference


def tokens(lengths: list[int], pad: int = 0, *, seed: int = 0, dim: int = 5) -> tuple[Tensor, Tensor]:
    """Unit vectors; what stands in the padded places is NaN."""
    longest = max(lengths) + pad
    generator = torch.Generator().manual_seed(seed)
    values = F.normalize(torch.randn(len(lengths), longest, dim, generator=generator, dtype=torch.float64), dim=2)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    return values.masked_fill(~mask[:, :, None], math.nan), mask


@pytest.fixture
def tile(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda side: monkeypatch.setitem(tiles.TILE, "cpu", side)


LENGTHS = [([4, 1, 3], [2, 5, 5, 1]), ([3], [2]), ([2, 0, 3], [0, 4]), ([0], [0, 2])]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("side", [1, 7, 100])
def test_equals_the_paper_written_as_loops(
    lengths: tuple[list[int], list[int]], side: int, tile: Callable[[int], None]
) -> None:
    tile(side)
    (a, mask_a), (b, mask_b) = tokens(lengths[0]), tokens(lengths[1], seed=1)
    real_a = [values[mask].numpy() for values, mask in zip(a, mask_a, strict=True)]
    real_b = [values[mask].numpy() for values, mask in zip(b, mask_b, strict=True)]
    wanted = reference.late_interaction(real_a, real_b)
    for got, want in zip(late_interaction(a, mask_a, b, mask_b), wanted, strict=True):
        torch.testing.assert_close(got, torch.from_numpy(want), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [1, 7, 100])
def test_gradients_by_finite_differences_and_none_in_padding(side: int, tile: Callable[[int], None]) -> None:
    tile(side)
    (a, mask_a), (b, mask_b) = tokens([3, 0, 2], dim=3), tokens([2, 4], seed=1, dim=3)
    a, b = a.nan_to_num(7.0).requires_grad_(), b.nan_to_num(7.0).requires_grad_()
    assert gradcheck(lambda a, b: late_interaction(a, mask_a, b, mask_b), (a, b))
    forth, back = late_interaction(a, mask_a, b, mask_b)
    (forth.sum() + back.square().sum()).backward()
    for side_of, mask in ((a, mask_a), (b, mask_b)):
        assert float(side_of.grad[~mask].abs().sum()) == 0.0


def dense(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dots = torch.einsum("iad,jbd->iajb", a, b)
    return dots.amax(3).mean(1), dots.amax(1).mean(2)


def test_one_tower_alone_can_be_trained() -> None:
    (a, mask_a), (b, mask_b) = tokens([3, 3]), tokens([4, 4, 4], seed=1)
    sent = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for learns in (a, b):
        learns.requires_grad_()
        found = torch.autograd.grad(late_interaction(a, mask_a, b, mask_b), learns, tuple(sent))
        torch.testing.assert_close(found, torch.autograd.grad(dense(a, b), learns, tuple(sent)))
        learns.requires_grad_(False)


@pytest.mark.parametrize("lengths", [(40000, 1), (1, 40000)])
def test_late_tokens_of_a_long_sample_have_the_same_gradient(lengths: tuple[int, int]) -> None:
    sides = [tokens([length], seed=seed, dim=2)[0] for seed, length in enumerate(lengths)]
    for side in sides:
        side[:, 35000:] *= 10
        side.requires_grad_()
    masks = [torch.ones(1, length, dtype=torch.bool) for length in lengths]
    found = torch.autograd.grad(sum(late_interaction(sides[0], masks[0], sides[1], masks[1])), sides)
    torch.testing.assert_close(found, torch.autograd.grad(sum(dense(sides[0], sides[1])), sides))


def test_gradients_to_samples_without_tokens_are_zero() -> None:
    (a, mask_a), (b, mask_b) = tokens([2, 0]), tokens([0, 3], seed=1)
    a, b = a.requires_grad_(), b.requires_grad_()
    sent = torch.full((2, 2), math.nan).double()
    sent[0, 1] = 1.0
    grads = torch.autograd.grad(late_interaction(a, mask_a, b, mask_b), (a, b), (sent, sent))
    for grad, row in zip(grads, (0, 1), strict=True):
        assert bool(grad.isfinite().all())
        assert grad[row].any()
        assert not grad[1 - row].any()


def test_negative_scores_keep_their_sign_next_to_padding() -> None:
    # Pads set to zero vectors, as some released code has them, put a floor of 0 under the maximum.
    a, mask_a = tokens([2])
    mask_b = torch.tensor([[True, False, False]])
    b = torch.cat([-a[:, :1], torch.zeros(1, 2, 5)], 1).double()
    forth, _ = late_interaction(a[:, :1], mask_a[:, :1], b, mask_b)
    torch.testing.assert_close(float(forth), -1.0)


@pytest.mark.parametrize("pad", [1, 12])
def test_padding_changes_nothing(pad: int) -> None:
    short = late_interaction(*tokens([3, 2]), *tokens([2, 4, 1], seed=1))
    (a, mask_a), (b, mask_b) = tokens([3, 2]), tokens([2, 4, 1], seed=1)
    longer = [F.pad(a, (0, 0, 0, pad), value=1e9), F.pad(mask_a, (0, pad))]
    longer += [F.pad(b, (0, 0, pad, 0), value=math.inf), F.pad(mask_b, (pad, 0))]
    for got, want in zip(late_interaction(*longer), short, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


def test_the_two_directions_differ_and_swap_with_the_towers() -> None:
    a, b = tokens([4, 3]), tokens([2, 5, 1], seed=1)
    forth, back = late_interaction(*a, *b)
    assert float((forth - back).abs().min()) > 1e-3
    turned = late_interaction(*b, *a)
    torch.testing.assert_close((turned[1].T, turned[0].T), (forth, back))


def test_the_score_of_a_pair_does_not_depend_on_other_pairs() -> None:
    (a, mask_a), (b, mask_b) = tokens([4, 3, 1]), tokens([2, 5, 1, 3], seed=1)
    forth, back = late_interaction(a, mask_a, b, mask_b)
    for i in range(3):
        for j in range(4):
            alone = late_interaction(a[i : i + 1], mask_a[i : i + 1], b[j : j + 1], mask_b[j : j + 1])
            torch.testing.assert_close((alone[0][0, 0], alone[1][0, 0]), (forth[i, j], back[i, j]))


def test_closed_forms() -> None:
    a, mask = tokens([4, 4])
    forth, back = late_interaction(a, mask, a, mask)
    torch.testing.assert_close(forth.diagonal(), torch.ones(2).double())  # each token finds itself
    torch.testing.assert_close(back.diagonal(), torch.ones(2).double())
    same = torch.ones(3, 4, 4, requires_grad=True)  # identical vectors: all tie, one wins
    forth, _ = late_interaction(same / 2, torch.ones(3, 4).bool(), same / 2, torch.ones(3, 4).bool())
    torch.testing.assert_close(forth, torch.ones(3, 3))
    forth.sum().backward()
    torch.testing.assert_close(same.grad.sum(), torch.tensor(18.0))  # 9 pairs, 8 vectors of 4 entries / 4 / 4 each


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype: torch.dtype) -> None:
    (a, mask_a), (b, mask_b) = tokens([4, 3]), tokens([2, 5], seed=1)
    a, b = a.to(dtype).requires_grad_(), b.to(dtype)
    wide = late_interaction(a.float(), mask_a, b.float(), mask_b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for got, want in zip(late_interaction(a, mask_a, b, mask_b), wide, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=0)
    late_interaction(a, mask_a, b, mask_b)[0].sum().backward()
    assert a.grad.dtype == dtype
    for given in ((a, mask_a, b.double(), mask_b), (b.double(), mask_b, a, mask_a)):
        assert {scores.dtype for scores in late_interaction(*given)} == {torch.float64}


def test_autocast_does_not_change_the_gradient() -> None:
    (a, mask_a), (b, mask_b) = tokens([4, 4]), tokens([5, 5], seed=1)
    a, b = a.float().requires_grad_(), b.float().requires_grad_()
    scores = late_interaction(a, mask_a, b, mask_b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(scores[0].sum(), (a, b))
    torch.testing.assert_close(found, torch.autograd.grad(dense(a, b)[0].sum(), (a, b)))


class Made(TorchDispatchMode):
    """The number of elements of the largest tensor made, and of all tensors of small integers together."""

    largest = 0
    winners = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
                self.winners += tensor.numel() * (tensor.dtype == torch.int16)
        return out


def test_products_of_all_tokens_are_never_held_at_once(tile: Callable[[int], None]) -> None:
    tile(16)
    (a, mask_a), (b, mask_b) = tokens([8] * 8), tokens([8] * 8, seed=1)
    a.requires_grad_()
    with Made() as made:
        sum(late_interaction(a, mask_a, b, mask_b)).sum().backward()
    assert made.largest <= 8 * 8 * 8  # who won; all dot products would be 8 times as many
    assert made.winners
    with torch.no_grad(), Made() as made:
        late_interaction(a, mask_a, b, mask_b)
    assert not made.winners


def test_invalid_arguments_are_errors() -> None:
    (a, mask_a), (b, mask_b) = tokens([2, 3]), tokens([2], seed=1)
    bad, worse = a.clone(), b.clone()
    bad[0, 0, 0], worse[0, 0, 0] = math.nan, math.inf
    for arguments, match in [
        ((bad, mask_a, b, mask_b), "NaN or infinity"),
        ((a, mask_a, worse, mask_b), "NaN or infinity"),
        ((a, mask_a[:, :1], b, mask_b), "tower a"),
        ((a[0], mask_a, b, mask_b), "tower a"),
        ((a[..., None], mask_a, b, mask_b), "tower a"),
        ((a, mask_a, b, mask_b.float()), "tower b"),
        ((a, mask_a, b[:, :, :2], mask_b), "one width"),
    ]:
        with pytest.raises(UserError, match=match):
            late_interaction(*arguments)
    leaf = a.nan_to_num().requires_grad_()
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(late_interaction(leaf, mask_a, b, mask_b)[0].sum(), leaf, create_graph=True)
