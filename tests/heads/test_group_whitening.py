"""Shuffled group whitening: reference values, gradients, and its place in training and in use."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads import HeadSet
from mmalign.heads.group_whitening import ShuffledGroupWhitening, inverse_square_root
from mmalign.modality import Encoder
from mmalign.types import Features

WIDTH = 6


def vectors(rows: int = 40) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(WIDTH, WIDTH, generator=draw, dtype=torch.float64)
    return torch.randn(rows, WIDTH, generator=draw, dtype=torch.float64) @ mixing + 3


def layer(groups: int, ridge: float = 0.0) -> ShuffledGroupWhitening:
    torch.manual_seed(0)
    return ShuffledGroupWhitening(WIDTH, groups, ridge)


def order(made: ShuffledGroupWhitening) -> Tensor:
    """The permutation of the next call."""
    return torch.randperm(WIDTH, generator=torch.Generator().manual_seed(int(made.seed) + int(made.draws) + 1))


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_within_each_drawn_group_the_covariance_is_the_identity(groups: int) -> None:
    made = layer(groups)
    for _ in range(3):
        drawn = order(made)
        whitened = made(vectors())[:, drawn].unflatten(1, (groups, -1))
        assert_close(whitened.mean(0), torch.zeros(groups, WIDTH // groups).double(), rtol=0, atol=1e-12)
        covariance = torch.einsum("ngi,ngj->gij", whitened, whitened) / 40
        eye = torch.eye(WIDTH // groups, dtype=torch.float64).expand(groups, -1, -1)
        assert_close(covariance, eye, rtol=0, atol=1e-9)


def test_one_group_is_zca_whatever_the_permutation() -> None:
    x, made = vectors(), layer(1)
    values, directions = torch.linalg.eigh(torch.cov(x.T, correction=0))
    zca = (x - x.mean(0)) @ (directions * values.rsqrt()) @ directions.T
    for _ in range(2):
        assert_close(made(x), zca, rtol=1e-9, atol=1e-9)


def test_groups_of_one_channel_are_standardised() -> None:
    x = vectors()
    assert_close(layer(WIDTH)(x), (x - x.mean(0)) / x.std(0, correction=0), rtol=1e-9, atol=1e-9)


def test_two_calls_give_different_views_and_use_gives_the_vectors_themselves() -> None:
    made, x = layer(2), vectors()
    first, second = made(x), made(x)
    similarity = F.cosine_similarity(first, second, dim=1).mean()
    assert 0.3 < float(similarity) < 0.999
    assert int(made.draws) == 2
    assert made.eval()(x) is x


def test_the_next_permutation_is_part_of_the_state() -> None:
    made, x = layer(2), vectors()
    made(x)
    resumed = layer(2)
    resumed.load_state_dict(made.state_dict())
    assert_close(resumed(x), made(x), rtol=0, atol=0)


def test_fewer_rows_than_channels_are_finite_with_the_ridge() -> None:
    for rows in (0, 1, 2):
        x = vectors(rows).requires_grad_()
        whitened = layer(1, ridge=1e-5)(x)
        whitened.square().sum().backward()
        assert whitened.isfinite().all()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_gradients_by_finite_differences() -> None:
    x = vectors(8).requires_grad_()
    made = layer(2, ridge=1e-3)

    def run(values: Tensor) -> Tensor:
        made.draws.zero_()
        return made(values)

    assert torch.autograd.gradcheck(run, x)
    equal = (2 * torch.eye(3, dtype=torch.float64))[None].requires_grad_()

    def symmetric(matrices: Tensor) -> Tensor:
        return inverse_square_root((matrices + matrices.mT) / 2)

    assert torch.autograd.gradcheck(symmetric, equal)  # all eigenvalues equal


def test_precision() -> None:
    made, x = layer(2, ridge=1e-3), vectors().float()
    with torch.autocast("cpu", torch.bfloat16):
        low = made(x.bfloat16())
    assert low.dtype == torch.float32


class Vectors(Encoder):
    def __init__(self) -> None:
        super().__init__(WIDTH)


def test_heads_whiten_before_the_projection_in_training_alone() -> None:
    torch.manual_seed(0)
    head, x = HeadSet(Vectors(), 4, {"vector"}, whitening=2).double(), vectors()
    assert head.whitening is not None
    plain = head.vector(x)
    whitened = head(Features(x)).vector
    head.whitening.draws.zero_()
    assert_close(whitened, head.vector(head.whitening(x)), rtol=0, atol=0)
    assert (whitened - plain).abs().max() > 0.1
    assert_close(head.eval()(Features(x)).vector, plain, rtol=0, atol=0)
    assert not any("whitening" in name for name in HeadSet(Vectors(), 4, {"vector"}).state_dict())


def test_bad_numbers_of_groups_are_refused() -> None:
    for groups in (4, -1):
        with pytest.raises(UserError, match=f"divides 6, got {groups}"):
            HeadSet(Vectors(), 4, {"vector"}, whitening=groups)
    with pytest.raises(UserError, match="whose vectors some objective reads"):
        HeadSet(Vectors(), 4, {"tokens"}, whitening=2)
