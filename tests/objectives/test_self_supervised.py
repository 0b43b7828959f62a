import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.functional.self_supervised import feature_std, variance_hinge, view_rows
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.self_supervised import ViewsObjective
from mmalign.types import Batch, Embedding
from tests.reference import pretraining as reference


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def units(rows: int, dim: int = 6, seed: int = 0) -> Tensor:
    return F.normalize(draw(rows, dim, seed=seed), dim=1)


def test_views_equal_their_definition() -> None:
    sides = units(5), units(5, seed=1), draw(5, 6, seed=2), draw(5, 6, seed=3)
    expected = reference.views(*(side.tolist() for side in sides))
    assert_close(view_rows(*sides).mean(), torch.tensor(expected, dtype=torch.float64))
    assert_close(view_rows(*(side.float() for side in sides)).mean(), torch.tensor(expected, dtype=torch.float32))


def test_no_gradient_reaches_the_predicted_view() -> None:
    a, b, told_a, told_b = (draw(4, 3, seed=seed).requires_grad_() for seed in range(4))
    view_rows(a, b, told_a, told_b).sum().backward()
    assert a.grad is None
    assert b.grad is None
    assert told_a.grad.abs().sum() > 0
    assert told_b.grad.abs().sum() > 0


def test_spread_and_hinge_equal_their_definition() -> None:
    vectors = units(7)
    assert_close(feature_std(vectors), torch.tensor(reference.feature_std(vectors.tolist()), dtype=torch.float64))
    assert_close(variance_hinge(vectors), torch.tensor(reference.hinge(vectors.tolist()), dtype=torch.float64))
    assert feature_std(units(4000, 32)).mean() == pytest.approx(1, abs=0.02)
    equal = torch.ones(3, 4).div(2).requires_grad_()
    variance_hinge(equal).backward()
    assert equal.grad.isfinite().all()
    assert feature_std(torch.zeros(0, 4)).tolist() == pytest.approx([1e-5] * 4)


def test_the_objective_is_the_sum_of_both() -> None:
    objective = ViewsObjective(6, variance=0.3).double()
    a, b = units(5), units(5, seed=1)
    told = objective.predictor(a), objective.predictor(b)
    expected = reference.views(*(side.tolist() for side in (a, b, *told)))
    hinge = (reference.hinge(a.tolist()) + reference.hinge(b.tolist())) / 2
    output = objective(Embedding(a), Embedding(b))
    assert_close(output.loss, torch.tensor(expected + 0.3 * hinge, dtype=torch.float64))
    assert output.terms["prediction_cosine"].item() == pytest.approx(-expected)
    assert output.terms["feature_std"].item() == pytest.approx(sum(reference.feature_std(a.tolist())) / 6)


def test_the_hinge_has_a_gradient_for_collapsed_vectors() -> None:
    start = F.normalize(torch.ones(8, 6) + 0.01 * draw(8, 6).float(), dim=1)
    found = {}
    for weight in (0.0, 1.0):
        objective, leaf = ViewsObjective(6, variance=weight), start.clone().requires_grad_()
        optimizer = torch.optim.SGD([leaf], lr=1.0)
        for _ in range(50):
            optimizer.zero_grad()
            side = Embedding(F.normalize(leaf, dim=1))
            objective(side, side).loss.backward()
            optimizer.step()
        found[weight] = feature_std(F.normalize(leaf.detach(), dim=1)).mean().item()
    assert found[0.0] < 0.5 < found[1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ViewsObjective(4, hidden=0), "hidden >= 1"),
        (lambda: ViewsObjective(4, variance=-1), "variance >= 0"),
        (lambda: view_rows(units(2), units(3), units(2), units(2)), "of one shape"),
        (lambda: view_rows(*[units(2) * math.nan] * 4), "finite"),
    ],
)
def test_invalid_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_a_pair_of_a_tower_with_itself_sees_two_views() -> None:
    terms, places = PairSum([PairConfig("x", "x", "clip")]), torch.arange(4)
    first, second = (Embedding(units(4, seed=seed).float(), tower="x") for seed in (0, 1))
    batch = Batch({}, {"x": places}, places, places)
    assert_close(terms({"x": first}, batch, again={"x": second}).loss, terms.objectives[0](first, second).loss)
    assert_close(terms({"x": first}, batch).loss, terms.objectives[0](first, first).loss)
