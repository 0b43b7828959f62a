"""Matryoshka: reference values, the plain loss, gradients of the truncated numbers, refusals."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective, SiglipObjective
from mmalign.objectives.distillation import DistillationObjective
from mmalign.objectives.functional.contrastive import clip_loss
from mmalign.objectives.functional.nested_sizes import truncate_vectors
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.nested_loss import nested_loss
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Batch, Embedding

ROWS, DIM = 6, 8


def tower(seed: int) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    vector = F.normalize(torch.randn(ROWS, DIM, generator=draw, dtype=torch.float64), dim=1)
    return Embedding(vector.requires_grad_(), tower="xy"[seed])


def outcome(objective: Objective, dims: list[int]) -> list[Tensor]:
    a, b = tower(0), tower(1)
    loss = nested_loss(objective, a, b, torch.tensor([0, 1, 0, 2, 3, 4]), dims=dims).loss
    loss.backward()
    assert a.vector.grad is not None
    assert b.vector.grad is not None
    return [loss.detach(), a.vector.grad, b.vector.grad]


def test_truncated_vectors_have_length_one() -> None:
    v = torch.tensor([[1.0, 0.0, 1.0, 0.0]]) / 2**0.5
    assert_close(truncate_vectors(v, 2), torch.tensor([[1.0, 0.0]]))
    assert truncate_vectors(v, 4) is v
    zero = torch.tensor([[0.0, 0.0, 1.0]], requires_grad=True)
    truncate_vectors(zero, 2).sum().backward()
    assert truncate_vectors(zero, 2).abs().sum() == 0
    assert zero.grad is not None
    assert zero.grad.isfinite().all()
    assert zero.grad[0, 2] == 0
    for size in (0, 5):
        with pytest.raises(UserError, match="size from 1 to 4"):
            truncate_vectors(v, size)


@pytest.mark.parametrize("objective", [ClipObjective(), SiglipObjective(initial_bias=-1.0), DistillationObjective()])
@pytest.mark.parametrize("dims", [[], [DIM]])
def test_the_full_size_alone_is_the_plain_loss_to_the_bit(objective: Objective, dims: list[int]) -> None:
    plain_a, plain_b = tower(0), tower(1)
    loss = objective(plain_a, plain_b, torch.tensor([0, 1, 0, 2, 3, 4])).loss
    loss.backward()
    grad_b = torch.zeros_like(plain_b.vector) if plain_b.vector.grad is None else plain_b.vector.grad
    if isinstance(objective, DistillationObjective):  # its teacher gets no gradient
        assert not grad_b.any()
        assert nested_loss(objective, tower(0), tower(1), torch.tensor([0, 1, 0, 2, 3, 4]), dims=dims).loss == loss
        return
    assert_close(outcome(objective, dims), [loss.detach(), plain_a.vector.grad, grad_b], rtol=0, atol=0)


def test_the_loss_is_the_mean_over_sizes() -> None:
    a, b, groups = tower(0).vector.detach(), tower(1).vector.detach(), torch.tensor([0, 1, 0, 2, 3, 4])
    expected = torch.stack(
        [
            clip_loss(F.normalize(a[:, :d]), F.normalize(b[:, :d]), 5.0, groups_a=groups, groups_b=groups)
            for d in (8, 4, 1)
        ]
    )
    objective = ClipObjective(5.0).double()
    output = nested_loss(objective, tower(0), tower(1), groups, dims=[1, 4, DIM])
    assert_close(output.loss.detach(), expected.mean())
    assert_close(torch.stack([output.terms[f"loss_{d}"] for d in (8, 4, 1)]), expected)
    assert output.terms["scale"] == objective.scale.detach()


def test_dimensions_beyond_a_size_get_no_gradient_from_it() -> None:
    objective, a = ClipObjective(), tower(0)
    full = nested_loss(objective, a, tower(1), dims=[3])
    (2 * full.loss - objective(a, tower(1)).loss).backward()  # the part of size 3 alone
    assert a.vector.grad is not None
    assert a.vector.grad[:, :3].any()
    assert a.vector.grad[:, 3:].abs().max() < 1e-15


def test_pairs_train_their_sizes_and_report_each() -> None:
    x, y, rows = tower(0), tower(1), torch.arange(ROWS)
    terms = PairSum([PairConfig("x", "y", dims=[2, 4])], DIM).double()
    output = terms({"x": x, "y": y}, Batch({}, {"x": rows, "y": rows}, rows, rows))
    assert {"x_y/loss_8", "x_y/loss_4", "x_y/loss_2", "x_y/loss", "x_y/scale"} == set(output.terms)
    losses = [output.terms[f"x_y/loss_{d}"] for d in (8, 4, 2)]
    assert_close(output.terms["x_y/loss"], torch.stack(losses).mean())
    assert_close(terms.similarity(x, y), x.vector @ y.vector.T)  # the score stays that of the full size


@pytest.mark.parametrize(
    ("objective", "dims", "message"),
    [
        ("clip", [0], "from 1 to 8"),
        ("clip", [9], "from 1 to 8"),
        ("clip", [4, 4], "different sizes"),
        ("transport", [4], "does not compare vectors of any size"),
        ("pcmepp", [4], "does not compare vectors of any size"),
        ("prototypes", [4], "does not compare vectors of any size"),
        ("views", [4], "does not compare vectors of any size"),
    ],
)
def test_sizes_that_cannot_be_trained_are_refused(objective: str, dims: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairSum([PairConfig("x", "y", objective, dims=dims)], DIM)
