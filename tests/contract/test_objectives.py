"""One walk over every registered objective: a new one gets these tests by being registered."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Embedding
from tests.contract.made import WIDTH, build, learnt, side

CYCLIC = ("differences",)
"""Objectives that compare each row with the next one: a cyclic shift of the batch changes nothing, a shuffle does."""


@pytest.fixture(params=list(registry.names("objectives")))
def objective(request: pytest.FixtureRequest) -> Objective:
    return build(request.param)


def value(objective: Objective, a: Embedding, b: Embedding, groups: Tensor | None = None) -> Tensor:
    return objective(a, b, groups).loss.detach()


def test_needs_are_fields_that_exist(objective: Objective) -> None:
    assert objective.needs <= {"vector", "log_variance", "tokens", "parts", "codes", "reconstructed", "decoded"}


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("grouping", ["none", "own", "pairs", "all"])
def test_loss_and_every_gradient_are_finite(objective: Objective, batch: int, grouping: str) -> None:
    """A batch of one and a batch without a negative included."""
    places = torch.arange(batch)
    groups = {"none": None, "own": places, "pairs": places // 2, "all": torch.zeros_like(places)}[grouping]
    a, b = side(objective, batch, seed=1), side(objective, batch, seed=2)
    output = objective(a, b, groups)
    assert output.loss.shape == ()
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    assert output.loss.isfinite()
    for leaf in learnt(objective, a, b):
        assert leaf.grad is not None, "something that the objective needs or owns has no part in the loss"
        assert leaf.grad.isfinite().all()
    for name, term in output.terms.items():
        assert isinstance(name, str)
        assert term.shape == ()
        assert term.isfinite()
        assert not term.requires_grad
    objective.after_step()


def test_every_leaf_has_a_gradient(objective: Objective) -> None:
    a, b = side(objective, 7, seed=1), side(objective, 7, seed=2)
    objective(a, b).loss.backward()
    for leaf in learnt(objective, a, b):
        assert leaf.grad.any()


def test_empty_batches_give_zero_loss(objective: Objective) -> None:
    """A step in which no sample has both sides still runs backward, so that processes stay in step."""
    a, b = side(objective, 0), side(objective, 0)
    loss = objective(a, b, torch.zeros(0, dtype=torch.int64)).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


def test_matching_pairs_have_lower_loss_and_higher_score(objective: Objective) -> None:
    unit = torch.eye(WIDTH)[:8]
    a, right = side(objective, 8, vector=unit), side(objective, 8, vector=unit)
    wrong = right[torch.arange(8).roll(1)]
    objective.eval()
    if objective.needs != {"reconstructed"}:  # each view reconstructs its own masked tokens
        assert value(objective, a, right) < value(objective, a, wrong)
    scores = objective.similarity(a, right)
    assert (scores.argmax(1) == torch.arange(8)).all()


def test_score_shape_and_independence(objective: Objective) -> None:
    a, b = side(objective, 5, seed=1), side(objective, 9, seed=2)
    objective.eval()
    with torch.no_grad():
        scores = objective.similarity(a, b)
        assert scores.shape == (5, 9)
        assert scores.isfinite().all()
        rows, columns = torch.tensor([3, 0]), torch.tensor([8, 1, 1])
        part = objective.similarity(a[rows], b[columns])
        torch.testing.assert_close(part, scores[rows][:, columns], atol=1e-6, rtol=1e-5)


def test_order_of_the_batch_does_not_change_the_loss(request: pytest.FixtureRequest, objective: Objective) -> None:
    a, b, groups = side(objective, 9, seed=1), side(objective, 9, seed=2), torch.arange(9) // 2
    objective.eval()
    cyclic = any(name in request.node.callspec.id for name in CYCLIC)
    shuffle = torch.arange(9).roll(4) if cyclic else torch.randperm(9)
    shuffled = value(objective, a[shuffle], b[shuffle], groups[shuffle])
    torch.testing.assert_close(shuffled, value(objective, a, b, groups))
    torch.testing.assert_close(value(objective, a, b, groups * 5 + 3), value(objective, a, b, groups))
    torch.testing.assert_close(value(objective, a, b, torch.arange(9)), value(objective, a, b))


def test_low_precision(objective: Objective) -> None:
    a, b = side(objective, 6, seed=1), side(objective, 6, seed=2)
    objective.eval()
    full = value(objective, a, b)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            low = objective(a.to(dtype), b.to(dtype)).loss
        assert low.dtype == torch.float32
        torch.testing.assert_close(low.detach(), full, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", list(registry.names("objectives")))
def test_state_dict_restores_loss_and_scores(name: str) -> None:
    objective = build(name)
    a, b = side(objective, 6, seed=1), side(objective, 6, seed=2)
    objective(a, b).loss.backward()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.sub_(0.01)
    fresh = build(name)
    fresh.load_state_dict(copy.deepcopy(objective.state_dict()))
    objective.eval()
    torch.testing.assert_close(value(fresh.eval(), a, b), value(objective, a, b), atol=0, rtol=0)
    torch.testing.assert_close(value(pickle.loads(pickle.dumps(fresh)), a, b), value(objective, a, b), atol=0, rtol=0)


@pytest.mark.parametrize("name", list(registry.names("objectives")))
def test_an_unknown_argument_is_named(name: str) -> None:
    with pytest.raises(UserError, match="no_such"):
        PairSum([PairConfig("a", "b", name, {"no_such": 1})])
