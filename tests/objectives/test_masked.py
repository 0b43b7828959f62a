"""Masked pretraining: reconstruction errors, agreement of two views, decoders."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.modality import Encoder
from mmalign.objectives.functional.masked import comasked_distance, masked_chamfer, masked_error
from mmalign.objectives.masked import ComaskedObjective, MaskedObjective
from mmalign.types import Embedding, Features, Tokens
from tests.reference import pretraining as reference

MASK = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unread(values: Tensor, mask: Tensor) -> Tensor:
    """The values, NaN where the mask is False: what must not be read."""
    return values.masked_fill(~mask[:, :, None], math.nan)


def test_masked_error_equals_its_definition() -> None:
    told, meant = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    expected = reference.hidden_error(told.tolist(), meant.tolist(), MASK.tolist())
    assert_close(
        masked_error(unread(told, MASK), unread(meant, MASK), MASK), torch.tensor(expected, dtype=torch.float64)
    )


def chamfer(told: list[list[float]], meant: list[list[float]]) -> float:
    """Equation 4 of Point-MAE, by loops."""

    def one_way(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(min(sum((x - y) ** 2 for x, y in zip(p, q, strict=True)) for q in b) for p in a) / len(a)

    return one_way(told, meant) + one_way(meant, told)


def test_masked_chamfer_equals_its_definition() -> None:
    told, meant = draw(3, 4, 6, 3), draw(3, 4, 6, 3, seed=1)
    expected = []
    for row in range(3):
        errors = [chamfer(told[row, t].tolist(), meant[row, t].tolist()) for t in range(4) if MASK[row, t]]
        expected.append(sum(errors) / max(len(errors), 1))
    found = masked_chamfer(unread(told.flatten(2), MASK), unread(meant.flatten(2), MASK), MASK)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_chamfer_does_not_depend_on_the_order_of_points_and_squared_error_does() -> None:
    told = draw(1, 1, 6, 3)
    shuffled, mask = told[:, :, [3, 1, 5, 0, 2, 4]], torch.ones(1, 1, dtype=torch.bool)
    assert masked_chamfer(told.flatten(2), shuffled.flatten(2), mask) == 0
    assert masked_error(told.flatten(2), shuffled.flatten(2), mask) > 0.1


def test_comasked_compares_each_token_with_itself_where_both_are_masked() -> None:
    a, b = draw(2, 4, 5), draw(2, 4, 5, seed=1)
    masks = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]]).bool(), torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1]]).bool()
    units = [F.normalize(side, dim=2) for side in (a, b)]
    expected = sum(1 - float(units[0][0, t] @ units[1][0, t]) for t in (0, 3)) / 2
    found = comasked_distance(unread(a, masks[0]), unread(b, masks[1]), *masks)
    assert_close(found, torch.tensor([expected, 0.0], dtype=torch.float64))
    # The released code averages over all pairs of tokens; of equal views that is not 0.
    every = torch.ones(1, 4, dtype=torch.bool)
    assert comasked_distance(a[:1], a[:1], every, every) == pytest.approx(0, abs=1e-12)
    assert (1 - units[0][0] @ units[0][0].T).mean() > 0.1


@pytest.mark.parametrize("function", [masked_error, masked_chamfer])
def test_without_masked_tokens_the_loss_is_zero(function: Any) -> None:
    told, mask = draw(2, 3, 6).requires_grad_(), torch.zeros(2, 3, dtype=torch.bool)
    loss = function(told, draw(2, 3, 6, seed=1), mask).sum()
    loss.backward()
    assert loss == 0
    assert (told.grad == 0).all()


def test_without_tokens_masked_in_both_views_the_loss_is_zero() -> None:
    told = torch.zeros(1, 2, 3, requires_grad=True)
    loss = comasked_distance(told, told.detach(), torch.tensor([[True, False]]), torch.tensor([[False, True]])).sum()
    loss.backward()
    assert loss == 0
    assert (told.grad == 0).all()


def view(size: float) -> Embedding:
    mask = torch.ones(2, 3, dtype=torch.bool)
    values = Tokens(torch.full((2, 3, 6), size), mask)
    return Embedding(torch.eye(2), reconstructed=values, original=Tokens(torch.zeros(2, 3, 6), mask), decoded=values)


def test_masked_takes_the_mean_of_both_views() -> None:
    assert MaskedObjective()(view(1.0), view(3.0)).loss == 5
    assert MaskedObjective(distance="chamfer")(view(1.0), view(3.0)).loss == 30  # 3 coordinates, both ways
    assert ComaskedObjective()(view(1.0), view(-3.0)).loss == pytest.approx(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedObjective(mask_ratio=0.0), r"mask_ratio: expected a number in \(0, 1\), got 0"),
        (lambda: ComaskedObjective(mask_ratio=1.0), "mask_ratio"),
        (lambda: MaskedObjective(distance="l2"), "expected a distance of mse or chamfer, got 'l2'"),
        (lambda: MaskedObjective()(view(1.0), Embedding(torch.eye(2))), "expected a reconstruction by tower a"),
        (lambda: ComaskedObjective()(view(1.0), Embedding(torch.eye(2))), "expected decoder features of tower a"),
        (lambda: masked_error(draw(2, 3, 4), draw(2, 3, 4), torch.ones(2, 3)), "a mask"),
        (lambda: masked_chamfer(draw(2, 3, 4), draw(2, 3, 4), torch.ones(2, 3).bool()), "whole points of 3"),
        (lambda: masked_error(draw(2, 3, 4) * math.nan, draw(2, 3, 4), torch.ones(2, 3).bool()), "finite"),
    ],
)
def test_invalid_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


class Blind(Encoder):
    """Returns tokens and cannot mask its inputs."""

    def __init__(self) -> None:
        super().__init__(4, token_width=4)


class Masks(Blind):
    """Masks its inputs."""

    target_width = 3

    def mask_inputs(self, *_: Any) -> Any:
        return None


class Decodes(Masks):
    """Has a decoder of its own."""

    def decoder(self) -> torch.nn.Module:
        class Constant(torch.nn.Module):
            def forward(self, tokens: Tokens, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
                return tokens.values * 2, inputs["answer"]

        return Constant()


def test_an_encoder_that_cannot_mask_is_refused() -> None:
    with pytest.raises(UserError, match="encoder Blind does not support Masking"):
        HeadSet(Blind(), 4, {"vector", "reconstructed"})


def test_reconstruction_exists_only_for_masked_inputs() -> None:
    heads = HeadSet(Masks(), 4, {"vector", "reconstructed"}).double()
    tokens, mask = draw(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    features, target = Features(draw(2, 4), Tokens(tokens, mask)), Tokens(draw(2, 5, 3), mask.clone())
    assert heads(features).reconstructed is None
    embedding = heads(features, masked=({}, target))
    weight, bias = heads.decoder.weight, heads.decoder.bias
    assert_close(embedding.reconstructed.values, tokens @ weight.T + bias)
    assert_close(embedding.decoded.values, tokens)
    assert embedding.original is target
    assert len(heads.empty(torch.device("cpu"), "x", None).reconstructed.values) == 0


def test_an_encoder_can_define_its_decoder() -> None:
    heads = HeadSet(Decodes(), 4, {"vector", "decoded"}).double()
    tokens, mask, answer = draw(2, 5, 4), torch.ones(2, 5, dtype=torch.bool), draw(2, 5, 3)
    features = Features(draw(2, 4), Tokens(tokens, mask))
    embedding = heads(features, masked=({"answer": answer}, Tokens(answer, mask)))
    assert_close(embedding.decoded.values, 2 * tokens)
    assert_close(embedding.reconstructed.values, answer)


def test_reconstruction_alone_embeds_by_the_encoders_own_vector() -> None:
    with pytest.raises(UserError, match="expected model.dim 4, its width, got 3"):
        HeadSet(Masks(), 3, {"reconstructed"})
    vector = draw(2, 4)
    assert_close(HeadSet(Masks(), 4, {"reconstructed"})(Features(vector)).vector, F.normalize(vector, dim=1))
