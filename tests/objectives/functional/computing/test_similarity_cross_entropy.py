import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.functional import clip_loss
from mmalign.objectives.functional.computing.similarity_cross_entropy import (
    partial_similarity_cross_entropy,
    similarity_cross_entropy,
)
from tests.gradients import gradcheck

GROUPS = [None, torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([7, 7, 2, 7, 2, 0]), torch.zeros(6, dtype=torch.int64)]


def table(n: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def by_loops(forth: Tensor, back: Tensor, groups: list[int]) -> float:
    """Rows from one table, columns from the other, one logit at a time."""
    n, total = len(groups), 0.0
    for logits in (forth.tolist(), back.T.tolist()):
        for i, row in enumerate(logits):
            positives = [row[j] for j in range(n) if groups[j] == groups[i]]
            top = max(row)
            total += top + math.log(math.fsum(math.exp(x - top) for x in row)) - math.fsum(positives) / len(positives)
    return total / (2 * n)


@pytest.mark.parametrize("groups", GROUPS)
def test_equals_loops_where_the_directions_differ(groups: Tensor | None) -> None:
    forth, back = table(), table(seed=1)
    numbers = list(range(6)) if groups is None else groups.tolist()
    assert_close(float(similarity_cross_entropy(forth, back, groups=groups)), by_loops(forth, back, numbers))
    assert_close(float(similarity_cross_entropy(forth, groups=groups)), by_loops(forth, forth, numbers))
    assert_close(
        similarity_cross_entropy(back.T, forth.T, groups=groups), similarity_cross_entropy(forth, back, groups=groups)
    )


@pytest.mark.parametrize("groups", GROUPS)
def test_equals_clip_where_the_table_is_dot_products(groups: Tensor | None) -> None:
    a, b = (F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1).requires_grad_() for _ in range(2))
    scale = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    wanted = clip_loss(a, b, scale, groups_a=groups, groups_b=groups)
    found = similarity_cross_entropy(scale * a @ b.T, groups=groups)
    assert_close(found, wanted)
    assert_close(torch.autograd.grad(found, (a, b, scale)), torch.autograd.grad(wanted, (a, b, scale)))


@pytest.mark.parametrize("groups", GROUPS)
def test_gradients_by_finite_differences(groups: Tensor | None) -> None:
    forth, back = table().requires_grad_(), table(seed=1).requires_grad_()
    assert gradcheck(lambda x, y: similarity_cross_entropy(x, y, groups=groups), (forth, back))


@pytest.mark.parametrize("cuts", [[6], [2, 4], [3, 0, 3], [1, 1, 4]], ids=str)
def test_partial_losses_add_up_to_the_whole(cuts: list[int]) -> None:
    forth, back, groups = table(), table(seed=1), torch.tensor([7, 7, 2, 7, 2, 0])
    columns, start, found = back.logsumexp(0), 0, []
    for rows in cuts:
        own = slice(start, start + rows)
        found.append(
            partial_similarity_cross_entropy(forth[own], back[own], rows=own, groups=groups, merge=lambda part: columns)
        )
        start += rows
    assert_close(torch.stack(found).sum(), similarity_cross_entropy(forth, back, groups=groups))


def test_merge_receives_the_sums_of_the_own_rows() -> None:
    forth, given = table(), []
    partial_similarity_cross_entropy(
        forth[2:5], rows=slice(2, 5), groups=torch.arange(6), merge=lambda part: given.append(part) or part
    )
    assert_close(given[0], forth[2:5].logsumexp(0))
    # Of no rows, there is nothing to sum, and still a graph.
    none = forth[:0].clone().requires_grad_()
    partial_similarity_cross_entropy(
        none, rows=slice(0, 0), groups=torch.arange(6), merge=lambda part: given.append(part) or part
    )
    assert_close(given[1], torch.full((6,), -math.inf, dtype=torch.float64))
    assert given[1].requires_grad


def test_one_row_and_no_row_cost_nothing_and_have_a_graph() -> None:
    for n in (0, 1):
        logits = torch.full((n, n), 3.0, requires_grad=True)
        loss = similarity_cross_entropy(logits)
        assert loss.item() == 0
        loss.backward()
        assert logits.grad is not None
        assert not logits.grad.any()


def test_large_and_equal_logits() -> None:
    assert_close(similarity_cross_entropy(torch.full((4, 4), 1e4)), torch.tensor(math.log(4)), rtol=1e-3, atol=0)
    assert similarity_cross_entropy(torch.eye(4) * 1e4).item() == 0
    assert_close(similarity_cross_entropy(torch.zeros(4, 4)), torch.tensor(math.log(4)))


def test_the_higher_precision_is_kept() -> None:
    half = torch.zeros(3, 3, dtype=torch.float16)
    assert similarity_cross_entropy(half).dtype == torch.float32
    wide = table(3)
    assert similarity_cross_entropy(half, wide).dtype == similarity_cross_entropy(wide, half).dtype == torch.float64
    assert_close(
        similarity_cross_entropy(wide.float(), wide),
        similarity_cross_entropy(wide.float().double(), wide),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_errors(bad: float) -> None:
    spoilt = table()
    spoilt[1, 2] = bad
    for tables in ((spoilt, table()), (table(), spoilt)):
        with pytest.raises(UserError, match="finite similarities"):
            similarity_cross_entropy(*tables)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UserError, match=r"square table of logits, got shape \(3, 4\)"):
        similarity_cross_entropy(torch.zeros(3, 4))
    with pytest.raises(UserError, match=r"\(3, 3\), \(3, 4\) and \(3,\) groups"):
        similarity_cross_entropy(torch.zeros(3, 3), torch.zeros(3, 4))
    with pytest.raises(UserError, match=r"and \(2,\) groups"):
        similarity_cross_entropy(torch.zeros(3, 3), groups=torch.arange(2))
    with pytest.raises(UserError, match="own rows"):
        partial_similarity_cross_entropy(torch.zeros(2, 3), rows=slice(0, 3), groups=torch.arange(3))
