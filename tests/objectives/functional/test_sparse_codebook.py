import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmalign.errors import UserError
from mmalign.objectives.functional import code_statistics, ground, sparsemax
from mmalign.objectives.functional import sparse_codebook as codebook
from tests.gradients import gradcheck
from tests.reference import codebook as reference

ACTIVATIONS = ["sparsemax", "softmax"]


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def lengths(*counts: int, longest: int) -> Tensor:
    return torch.arange(longest) < torch.tensor(counts)[:, None]


VECTORS = {
    "spread": [0.3, -1.2, 0.9, 0.2],
    "one": [-7.0],
    "equal": [2.0, 2.0, 2.0],
    "tie at the top": [1.0, 1.0, 0.5, -3.0],
    "tie in the tail": [1.0, 0.6, 0.6, 0.6],
    "on the border": [1.0, 0.0, -2.0],
    "one far above": [1e6, 0.0, -1e6],
    "some absent": [0.2, -math.inf, 0.1, -math.inf],
    "one present": [-math.inf, -5.0, -math.inf],
    "none present": [-math.inf, -math.inf],
}


@pytest.mark.parametrize("x", VECTORS.values(), ids=VECTORS)
def test_sparsemax_is_the_papers(x: list[float]) -> None:
    values, direction = torch.tensor(x, dtype=torch.float64, requires_grad=True), normal(len(x))
    out = sparsemax(values)
    torch.testing.assert_close(out.tolist(), reference.sparsemax(x), rtol=1e-12, atol=1e-12)
    (grad,) = torch.autograd.grad(out, values, direction)
    torch.testing.assert_close(grad.tolist(), reference.sparsemax_product(x, direction.tolist()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12))
def test_sparsemax_is_the_projection_onto_the_simplex(x: list[float]) -> None:
    values = torch.tensor(x, dtype=torch.float64)
    out = sparsemax(values)
    torch.testing.assert_close(out.tolist(), reference.sparsemax(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sparsemax(values + 11.0), out, rtol=1e-10, atol=1e-10)
    assert bool((out >= 0).all())
    torch.testing.assert_close(float(out.sum()), 1.0)
    others = torch.softmax(normal(50, len(x)) * 3, 1)  # nothing else among the distributions is nearer
    assert float((out - values).norm()) <= float((others - values).norm(dim=1).min()) + 1e-12


def test_sparsemax_along_any_dimension_and_to_the_second_derivative() -> None:
    x = normal(3, 5, 4).requires_grad_()
    torch.testing.assert_close(sparsemax(x, 1), sparsemax(x.transpose(1, 2)).transpose(1, 2))
    assert gradcheck(lambda x: sparsemax(x, 1), (x,))
    assert torch.autograd.gradgradcheck(lambda x: sparsemax(x, 0), (x,))
    assert sparsemax(torch.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sparsemax_of_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    x = torch.tensor([[6e4, 3e4, -6e4], [0.25, 0.0, -math.inf]], dtype=dtype, requires_grad=True)
    out = sparsemax(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor([[1.0, 0.0, 0.0], [0.625, 0.375, 0.0]]))
    (grad,) = torch.autograd.grad(out[:, 0].sum(), x)
    torch.testing.assert_close(grad, torch.tensor([[0.0, 0.0, 0.0], [0.5, -0.5, 0.0]], dtype=dtype))


def test_weights_of_many_nearly_equal_codes_sum_to_one() -> None:
    out = sparsemax(normal(4, 16384, dtype=torch.float32) / 3000)
    assert float((out > 0).float().mean()) > 0.2
    torch.testing.assert_close(out.sum(1), torch.ones(4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_sparsemax_refuses_nan_and_infinity(bad: float) -> None:
    with pytest.raises(UserError, match="NaN or infinity"):
        sparsemax(torch.tensor([0.0, bad]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("rows", [1, 10, 2048])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 1000.0])
def test_grounding_is_the_papers_written_as_loops(
    activation: str, chunk: int, rows: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codebook, "_TILE_ROWS", rows)
    monkeypatch.setattr(codebook, "_SORTED", rows)
    tokens, codes, mask = normal(5, 4, 3), normal(7, 3, seed=1), lengths(4, 1, 0, 3, 2, longest=4)
    wanted = reference.ground(tokens.numpy(), mask.numpy(), codes.numpy(), temperature, activation)
    got = ground(tokens, mask, codes, temperature, activation=activation, chunk=chunk)
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tile", [1, 2**20])
def test_gradients_by_finite_differences(activation: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "_TILE_ROWS", tile)
    monkeypatch.setattr(codebook, "_SORTED", tile)
    mask = lengths(4, 1, 0, 3, longest=4)
    temperature = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    inputs = (normal(4, 4, 3).requires_grad_(), normal(6, 3, seed=1).requires_grad_(), temperature)
    assert gradcheck(lambda q, c, t: ground(q, mask, c, t, activation=activation, chunk=4), inputs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_the_dense_scores(activation: str) -> None:
    mask, sent = lengths(9, 4, 1, longest=9), normal(3, 50, seed=2)
    results = []
    for dense in (False, True):
        q, codes = normal(3, 9, 8).requires_grad_(), normal(50, 8, seed=1).requires_grad_()
        if dense:
            scores = (q @ codes.T).masked_fill(~mask[:, :, None], -math.inf).amax(1) / math.sqrt(8)
            weights = sparsemax(scores) if activation == "sparsemax" else scores.softmax(1)
        else:
            weights = ground(q, mask, codes, 1.0, activation=activation, chunk=7)
        results.append([weights.detach(), *torch.autograd.grad(weights, (q, codes), sent)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("filler", [0.0, 1e9, math.nan, math.inf])
def test_padding_changes_nothing(activation: str, filler: float) -> None:
    codes = normal(20, 6, seed=1).requires_grad_()
    results = []
    for extra in (0, 5):
        mask = lengths(2, 2, 1, 0, longest=2 + extra)
        q = F.pad(normal(4, 2, 6), (0, 0, 0, extra)).masked_fill(~mask[:, :, None], filler).requires_grad_()
        weights = ground(q, mask, codes, 0.5, activation=activation)
        results.append([weights.detach(), *torch.autograd.grad(weights[:, 3].sum(), (q, codes))])
    (plain, grad_q, grad_c), (padded, padded_q, padded_c) = results
    torch.testing.assert_close(padded, plain)
    torch.testing.assert_close(padded_c, grad_c)
    torch.testing.assert_close(padded_q[:, :2], grad_q)
    assert not padded_q[:, 2:].any()


def test_a_code_with_negative_scores_for_all_tokens_keeps_its_score() -> None:
    # Scores of pads multiplied by zero put a floor at zero under the maximum: this code would look accepted.
    codes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-0.5, 0.0]])
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    weights = ground(tokens, torch.tensor([[True, False]]), codes, 1 / math.sqrt(2), activation="softmax")
    torch.testing.assert_close(weights, torch.tensor([[1.0, -1.0, -0.5]]).softmax(1))


def test_the_order_of_tokens_and_the_rest_of_the_batch_change_nothing() -> None:
    tokens, codes, mask = normal(4, 5, 6), normal(30, 6, seed=1), lengths(5, 2, 3, 1, longest=5)
    whole, order = ground(tokens, mask, codes, 0.3), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(ground(tokens[:, order], mask[:, order], codes, 0.3), whole)
    for row in range(4):
        torch.testing.assert_close(ground(tokens[row : row + 1], mask[row : row + 1], codes, 0.3), whole[row : row + 1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("length", [0, 3])
def test_a_sample_without_tokens_gets_zeros_and_no_gradient(activation: str, length: int) -> None:
    q, codes = normal(2, length, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    temperature = torch.tensor(0.5, requires_grad=True)
    mask = torch.zeros(2, length, dtype=torch.bool)
    weights = ground(q, mask, codes, temperature, activation=activation)
    assert weights.shape == (2, 5)
    assert not weights.any()
    for grad in torch.autograd.grad(weights, (q, codes, temperature), normal(2, 5, seed=2)):
        assert not grad.any()  # and none is NaN


def test_closed_forms() -> None:
    codes = torch.eye(4)
    same = ground(torch.ones(1, 3, 4), None, codes, 1.0)  # all scores equal: all codes equal
    torch.testing.assert_close(same, torch.full((1, 4), 0.25))
    one = ground(codes[None, 2:3], None, codes, 1e-3)
    torch.testing.assert_close(one, codes[2:3])
    torch.testing.assert_close(ground(normal(3, 2, 4), None, normal(1, 4), 1.0), torch.ones(3, 1, dtype=torch.float64))
    assert ground(torch.zeros(0, 3, 4), None, codes, 1.0).shape == (0, 4)


def test_of_equal_tokens_the_first_has_the_gradient() -> None:
    q = torch.ones(1, 3, 2, requires_grad=True)
    ground(q, None, torch.eye(2), 1.0, activation="softmax")[0, 0].backward()
    assert q.grad is not None
    assert q.grad[0, 0].any()
    assert not q.grad[0, 1:].any()


def test_tokens_or_codes_alone_may_learn() -> None:
    both = normal(3, 4, 8).requires_grad_(), normal(20, 8, seed=1).requires_grad_()
    wanted = torch.autograd.grad(ground(both[0], None, both[1], 0.2).square().sum(), both)
    for learns, want in enumerate(wanted):
        given = [side.detach().requires_grad_(place == learns) for place, side in enumerate(both)]
        (got,) = torch.autograd.grad(ground(given[0], None, given[1], 0.2).square().sum(), given[learns])
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_late_tokens_of_a_long_sample_have_the_same_gradient() -> None:
    q, codes = normal(2, 40000, 2), normal(5, 2, seed=1).requires_grad_()
    q[:, 35000:] *= 10
    q.requires_grad_()
    found = torch.autograd.grad(ground(q, None, codes, 1.0, activation="softmax").square().sum(), (q, codes))
    dense = ((q @ codes.T).amax(1) / math.sqrt(2)).softmax(1).square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(dense, (q, codes)))
    assert not found[0][:, :35000].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_half_precision_at_extreme_values_is_finite(dtype: torch.dtype, activation: str) -> None:
    for factor, temperature in [(6e4, 1e4), (6e4, 1e-3), (1e-6, 1e-3), (1.0, 1e-3)]:
        q = torch.clamp(normal(3, 5, 64) * factor, -6e4, 6e4).to(dtype).requires_grad_()
        codes = normal(40, 64, dtype=dtype, seed=1).requires_grad_()
        weights = ground(q, None, codes, temperature, activation=activation)
        grads = torch.autograd.grad(weights.square().sum(), (q, codes))
        assert weights.dtype == torch.float32
        assert all(t.isfinite().all() for t in (weights, *grads))
        assert [g.dtype for g in grads] == [dtype, dtype]


def test_autocast_changes_nothing() -> None:
    q, codes = normal(3, 5, 64, dtype=torch.float32), normal(40, 64, dtype=torch.float32, seed=1)

    def run() -> list[Tensor]:
        x, y = q.clone().requires_grad_(), codes.clone().requires_grad_()
        out = ground(x, None, y, 0.2)
        return [out.detach(), *torch.autograd.grad(out.square().sum(), (x, y))]

    outside = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run()
    for left, right in zip(inside, outside, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor made, and of the largest of long integers."""

    size = 0
    places = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
                self.places = max(self.places, tensor.numel() * (tensor.dtype == torch.int64))
        return out


def test_scores_of_all_tokens_and_codes_are_never_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "_TILE_ROWS", 64)
    q, codes = normal(16, 32, 4).requires_grad_(), normal(512, 4, seed=1).requires_grad_()
    with Largest() as watch:
        ground(q, None, codes, 1.0, chunk=64).square().sum().backward()
    assert watch.size <= 16 * 512  # the pooled scores; all of them would be 32 times as many
    assert q.grad is not None
    assert codes.grad is not None


def test_sparsemax_sorts_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(32, 64).requires_grad_()
    whole = [sparsemax(x), *torch.autograd.grad(sparsemax(x).square().sum(), x)]
    monkeypatch.setattr(codebook, "_SORTED", 5 * 64)
    with Largest() as watch:
        parts = [sparsemax(x), *torch.autograd.grad(sparsemax(x).square().sum(), x)]
    assert 0 < watch.places <= 5 * 64
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)


def test_statistics_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = code_statistics(weights)  # the last sample had no token
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(torch.stack(list(found)), torch.tensor([0.5, math.exp(entropy), 1.5]))
    even = code_statistics(torch.full((3, 8), 1 / 8, dtype=torch.bfloat16))
    torch.testing.assert_close(torch.stack(list(even)), torch.tensor([1.0, 8.0, 8.0]))
    torch.testing.assert_close(code_statistics(weights, threshold=0.6).live, torch.tensor(0.25))
    nothing = code_statistics(torch.zeros(0, 8))
    torch.testing.assert_close(torch.stack(list(nothing)), torch.tensor([0.0, 1.0, 0.0]))
    assert not code_statistics(weights.requires_grad_()).perplexity.requires_grad


def test_invalid_arguments_are_errors() -> None:
    tokens, codes = normal(2, 3, 4), normal(5, 4)
    with pytest.raises(UserError, match="got shapes"):
        ground(tokens, None, normal(5, 3), 1.0)
    with pytest.raises(UserError, match="mask of booleans"):
        ground(tokens, torch.ones(2, 3), codes, 1.0)
    with pytest.raises(UserError, match="mask of booleans"):
        ground(tokens, torch.ones(2, 4, dtype=torch.bool), codes, 1.0)
    with pytest.raises(UserError, match="at least one code"):
        ground(tokens, None, codes[:0], 1.0)
    with pytest.raises(UserError, match="sparsemax or softmax"):
        ground(tokens, None, codes, 1.0, activation="sigmoid")  # type: ignore[arg-type]
    for temperature in (0.0, -1.0, math.nan, torch.tensor(0.0)):
        with pytest.raises(UserError, match="temperature above zero"):
            ground(tokens, None, codes, temperature)
    with pytest.raises(UserError, match="shape"):
        code_statistics(tokens)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_and_infinity_are_refused(bad: float, side: int) -> None:
    given = [normal(2, 3, 4), normal(5, 4)]
    given[side][1, 1] = bad
    with pytest.raises(UserError, match="grounding expected finite"):
        ground(given[0], None, given[1], 1.0)


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    q = normal(2, 3, 4).requires_grad_()
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(ground(q, None, normal(5, 4), 1.0)[0, 0], q, create_graph=True)
