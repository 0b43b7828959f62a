"""One-to-K and the other objectives that take several items per row, against loops in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective, SiglipObjective
from mmalign.objectives.functional import one_to_k_loss
from mmalign.objectives.one_to_k import OneToKObjective
from mmalign.objectives.token_mean import TokenMeanObjective
from mmalign.types import Embedding
from tests.reference.one_to_k import grouped_one_to_k_loss

RAGGED = torch.tensor([0, 0, 1, 2, 2, 2, 3])
GROUPS = torch.tensor([5, 7, 5, 9])


def units(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 6, generator=generator, dtype=torch.float64), dim=1)


def loss_of(objective: Any, a: Tensor, b: Tensor, owner: Tensor | None, groups: Tensor | None = None) -> Tensor:
    return objective.double()(Embedding(a), Embedding(b), groups, owner=owner).loss


def halves(a: Tensor, b: Tensor, scale: float, owner: Tensor) -> tuple[float, float]:
    """The two halves of `clip` with several columns per row: of the rows, and of the columns."""
    scores = scale * a @ b.T
    mine = owner == torch.arange(len(a))[:, None]
    rows = -(scores.log_softmax(1) * mine).sum(1) / mine.sum(1)
    columns = -(scores.log_softmax(0) * mine).sum(0)
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("k", [1, 2, 5])
def test_one_to_k_is_clip_with_the_second_half_divided_by_k(k: int) -> None:
    a, b, owner = units(4, 0), units(4 * k, 1), torch.arange(4).repeat_interleave(k)
    f, g = halves(a, b, 7.0, owner)
    ours = loss_of(OneToKObjective(7.0), a, b, owner).detach()
    torch.testing.assert_close(float(ours), (f + g / k) / 2, rtol=1e-7, atol=0.0)
    clip = loss_of(ClipObjective(7.0), a, b, owner).detach()
    torch.testing.assert_close(float(clip), (f + g) / 2, rtol=1e-7, atol=0.0)
    more = loss_of(OneToKObjective(7.0, normalise=False), a, b, owner)
    torch.testing.assert_close(float(more.detach()), k * float(ours), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["rows", "groups"])
@pytest.mark.parametrize("normalise", [True, False])
def test_ragged_items_equal_loops(normalise: bool, groups: Tensor | None) -> None:
    a, b = units(4, 0), units(7, 1)
    objective = OneToKObjective(7.0, normalise=normalise)
    got = float(loss_of(objective, a, b, RAGGED, groups).detach())
    named = (torch.arange(4) if groups is None else groups).tolist()
    scale = float(objective.scale.detach())
    wanted = grouped_one_to_k_loss(a.numpy(), b.numpy(), scale, RAGGED.tolist(), named, normalise)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    if groups is None:
        function = one_to_k_loss(a, b, scale, RAGGED, normalise=normalise)
        torch.testing.assert_close(got, float(function), rtol=1e-12, atol=1e-12)


def test_siglip_labels_every_item_of_a_row_as_a_match() -> None:
    a, b = units(4, 0), units(7, 1)
    objective = SiglipObjective(7.0, -1.0)
    got = loss_of(objective, a, b, RAGGED)
    label = 2.0 * (torch.arange(4)[:, None] == RAGGED) - 1
    wanted = -F.logsigmoid(label * (objective.scale * a @ b.T + objective.bias)).sum() / 4
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_one_item_a_row_equals_clip_in_value_and_gradient() -> None:
    results = []
    for objective in (OneToKObjective(7.0), ClipObjective(7.0)):
        a, b = units(5, 0).requires_grad_(), units(5, 1).requires_grad_()
        owner = torch.arange(5) if isinstance(objective, OneToKObjective) else None
        loss = loss_of(objective, a, b, owner, torch.tensor([0, 1, 0, 2, 3]))
        results.append([loss.detach(), *torch.autograd.grad(loss, (a, b, objective.log_scale))])
    for ours, clips in zip(*results, strict=True):
        torch.testing.assert_close(ours, clips, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", [OneToKObjective(), ClipObjective(), SiglipObjective()])
def test_a_batch_of_one_and_of_none_has_a_finite_loss_and_gradient(objective: Any) -> None:
    for rows, owner in ((0, []), (1, [0]), (1, [0, 0, 0])):
        a, b = units(rows, 0).requires_grad_(), units(len(owner), 1).requires_grad_()
        loss = loss_of(objective, a, b, torch.tensor(owner, dtype=torch.int64))
        loss.backward()
        assert loss.isfinite()
        assert a.grad is not None
        assert a.grad.isfinite().all()
        assert rows or float(loss.detach()) == 0.0


def test_the_minimum_is_half_the_logarithm_of_k() -> None:
    eye, owner = torch.eye(4).double(), torch.arange(4).repeat_interleave(3)
    got = loss_of(OneToKObjective(200.0, None), eye, eye[owner], owner)
    torch.testing.assert_close(float(got.detach()), math.log(3) / 2, rtol=1e-9, atol=0.0)


def test_an_objective_of_one_item_refuses_several_and_names_those_that_take_them() -> None:
    e = Embedding(torch.eye(2))
    with pytest.raises(UserError, match=r"TokenMeanObjective takes one item per row.*one_to_k, clip, siglip"):
        TokenMeanObjective()(e, e, owner=torch.tensor([0, 1]))
    with pytest.raises(UserError, match="2 of tower b, one for each owner, got 2 and 3"):
        ClipObjective()(e, Embedding(torch.eye(3)), owner=torch.tensor([0, 1]))
