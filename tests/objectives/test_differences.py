import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.differences import DifferencesObjective
from mmalign.types import Embedding


def rows(count: int = 6, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 5, generator=draw, dtype=torch.float64), dim=1)


def loss(a: Tensor, b: Tensor, groups: Tensor | None = None, **arguments: Any) -> Tensor:
    return DifferencesObjective(**arguments)(Embedding(a), Embedding(b), groups).loss


@pytest.mark.parametrize(("other", "expected"), [(1.0, 0.0), (-1.0, 2.0)])
def test_equal_shifted_and_opposite_towers(other: float, expected: float) -> None:
    a = rows()
    for shift in (0.0, 3.0):
        value = loss(a, other * a + shift, contrast=False)
        assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_orthonormal_rows_have_the_value_of_the_closed_form() -> None:
    e = torch.eye(4, dtype=torch.float64)
    expected = math.log(1 + math.exp(-1 / 0.1) + 2 * math.exp(-1.5 / 0.1))
    assert_close(loss(e, e), torch.tensor(expected, dtype=torch.float64))
    assert expected == pytest.approx(4.601e-5, rel=1e-3)


def test_cosines_of_differences_equal_the_form_of_four_products() -> None:
    """c_ii = (s_ii + s_pp - s_ip - s_pi) / (2 sqrt((1 - a_i . a_p) (1 - b_i . b_p))), of unit vectors."""
    a, b = rows(), rows(seed=1)
    s, p = a @ b.T, torch.arange(6).roll(-1)
    i = torch.arange(6)
    length = 2 * ((1 - (a * a[p]).sum(1)) * (1 - (b * b[p]).sum(1))).sqrt()
    cosines = (s[i, i] + s[p, p] - s[i, p] - s[p, i]) / length
    assert_close(loss(a, b, contrast=False), (1 - cosines).mean())


def test_partners_are_the_next_rows_of_the_same_group() -> None:
    a, b, groups = rows(7), rows(7, seed=1), torch.tensor([3, 1, 3, 2, 1, 3, 9])
    partners = [2, 4, 5, 3, 1, 0, 6]  # rows 3 and 6 are alone in their groups
    counts = torch.tensor([0, 1, 2, 4, 5])
    da, db = (F.normalize(one - one[partners], dim=1)[counts] for one in (a, b))
    expected = (
        F.cross_entropy(da @ db.T / 0.1, torch.arange(5)) + F.cross_entropy(db @ da.T / 0.1, torch.arange(5))
    ) / 2
    output = DifferencesObjective("group")(Embedding(a), Embedding(b), groups)
    assert_close(output.loss, expected)
    assert_close(output.terms["counted"], torch.tensor(5 / 7, dtype=torch.float64))


def test_equal_rows_are_left_out_without_a_division() -> None:
    a = rows(4)
    a[1] = a[0]  # the difference of row 0 is zero in tower a alone
    a.requires_grad_()
    output = DifferencesObjective()(Embedding(a), Embedding(rows(4, seed=1)))
    output.loss.backward()
    assert output.terms["counted"] == 0.75
    assert a.grad is not None
    assert a.grad.isfinite().all()
    every = torch.ones(3, 4, requires_grad=True)
    nothing = DifferencesObjective()(Embedding(every), Embedding(every)).loss
    nothing.backward()
    assert nothing == 0


def test_bad_arguments_are_named() -> None:
    with pytest.raises(UserError, match="expected next or group, got 'last'"):
        DifferencesObjective("last")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="temperature"):
        DifferencesObjective(temperature=0.0)
