import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.apart import ApartObjective
from mmalign.types import Embedding


def test_equal_vectors_have_log_2() -> None:
    equal = Embedding(torch.eye(4, dtype=torch.float64)[:1].expand(5, 4).clone().requires_grad_())
    loss = ApartObjective()(equal, equal).loss
    assert_close(loss, torch.tensor(math.log(2), dtype=torch.float64))
    loss.backward()
    assert equal.vector.grad.isfinite().all()
    assert_close(equal.vector.grad, equal.vector.grad[:1].expand(5, 4))  # nothing tells one row from another


@pytest.mark.parametrize("batch", [2, 8, 64])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_orthonormal_vectors_have_a_loss_that_does_not_depend_on_the_batch(batch: int, temperature: float) -> None:
    e = Embedding(torch.eye(batch, dtype=torch.float64))
    expected = math.log1p(math.exp(-1 / temperature))
    assert_close(ApartObjective(temperature)(e, e).loss, torch.tensor(expected, dtype=torch.float64))


def test_equals_the_equation_written_as_loops() -> None:
    draw, t = torch.Generator().manual_seed(0), 0.3
    a, b = F.normalize(torch.randn(2, 6, 4, generator=draw, dtype=torch.float64), dim=2)
    groups = [0, 1, 0, 2, 3, 4]
    total = 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(6):
            negatives = [math.exp(float(x[i] @ y[j]) / t) for j in range(6) if groups[i] != groups[j]]
            total -= math.log(math.exp(1 / t) / (math.exp(1 / t) + sum(negatives) / len(negatives)))
    output = ApartObjective(t)(Embedding(a), Embedding(b), torch.tensor(groups))
    assert_close(output.loss, torch.tensor(total / 12, dtype=torch.float64))


def test_copies_of_every_row_are_negatives_unless_they_share_a_group() -> None:
    e = Embedding(F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1))
    twice, objective = Embedding(e.vector.repeat(2, 1)), ApartObjective()
    assert objective(twice, twice).loss > objective(e, e).loss
    assert_close(objective(twice, twice, torch.arange(6).repeat(2)).loss, objective(e, e).loss)


def test_a_row_without_negatives_adds_nothing() -> None:
    lone = Embedding(torch.eye(3)[:1].clone().requires_grad_())
    loss = ApartObjective()(lone, lone).loss
    loss.backward()
    assert loss == 0
    assert not lone.vector.grad.any()
    with pytest.raises(UserError, match="temperature: expected a number above 0"):
        ApartObjective(0.0)
