"""False negatives by a guide: a float64 loop, nothing masked = the plain loss to the bit, everything masked = 0."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective, SiglipObjective
from mmalign.objectives.functional.computing import tiled_logsumexp
from mmalign.objectives.functional.false_negatives import limits
from mmalign.objectives.late_interaction import LateInteractionObjective
from mmalign.objectives.objective import Objective
from mmalign.types import Embedding, Guide

GROUPS = torch.tensor([0, 1, 0, 2, 3, 1, 4, 5])
ROWS = len(GROUPS)


def unit(rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(rows, width, dtype=dtype), dim=1)


def objectives(scale: float = 7.0) -> dict[str, Objective]:
    return {
        "clip": ClipObjective(scale, None).double(),
        "siglip": SiglipObjective(scale, -1.0).double(),
    }


def outcome(objective: Objective, a: Tensor, b: Tensor, **more: Any) -> list[Tensor]:
    """The loss, and the gradients of both towers."""
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    loss = objective(Embedding(a), Embedding(b), **more).loss
    loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    return [loss.detach(), a.grad, b.grad]


def by_loop(name: str, a: Tensor, b: Tensor, guide: Guide, groups: Tensor, scale: float) -> Tensor:
    """The definition, pair by pair."""
    logits, own = scale * a @ b.T, guide.a @ guide.b.T

    def limit(i: int) -> float:
        return float(own[i, i] - guide.margin - guide.relative_margin * own[i, i].abs())

    total = a.new_zeros(())
    for i in range(len(a)):
        positives = [j for j in range(len(b)) if groups[j] == groups[i]]
        row = [j for j in range(len(b)) if j in positives or not own[i, j] > limit(i)]
        column = [j for j in range(len(b)) if j in positives or not own[j, i] > limit(i)]
        if name == "clip":
            total = total + torch.logsumexp(logits[i, row], 0) - logits[i, positives].mean()
            total = total + torch.logsumexp(logits[column, i], 0) - logits[positives, i].mean()
            continue
        for j in range(len(b)):
            if j in positives:
                total = total + F.softplus(-(logits[i, j] - 1.0)) * 2
            elif not (own[i, j] > limit(i) or own[i, j] > limit(j)):
                total = total + F.softplus(logits[i, j] - 1.0) * 2
    return total / (2 * len(a))


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize(("margin", "relative"), [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.4)])
@pytest.mark.parametrize(("tile", "scale"), [(2048, 7.0), (3, 7.0), (3, 900.0)])
def test_equals_the_float64_loop(
    name: str, margin: float, relative: float, tile: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiled_logsumexp.TILE, "cpu", tile)
    a, b = unit(ROWS, 5), unit(ROWS, 5)
    seen = unit(ROWS, 4)
    guide = Guide(seen, F.normalize(seen + 0.7 * torch.randn(ROWS, 4, dtype=torch.float64), dim=1), margin, relative)
    objective = objectives(scale)[name]
    loss, *gradients = outcome(objective, a, b, groups=GROUPS, guide=guide)
    scale = float(objective.scale.detach())  # in float64, of a logarithm in float32
    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    expected = by_loop(name, x, y, guide, GROUPS, scale)
    expected.backward()
    assert abs(expected - by_loop(name, a, b, Guide(seen, seen, -3.0), GROUPS, scale)) > 1e-3, "something is masked"
    torch.testing.assert_close([loss, *gradients], [expected.detach(), x.grad, y.grad], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("scale", [7.0, 900.0])
def test_a_guide_that_masks_nothing_changes_no_bit(name: str, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiled_logsumexp.TILE, "cpu", 13)
    a, b = unit(40, 16, torch.float32), unit(40, 16, torch.float32)
    guide = Guide(unit(40, 4, torch.float32), unit(40, 4, torch.float32), margin=-3.0)
    plain, guided = (outcome(objectives(scale)[name].float(), a, b, **more) for more in ({}, {"guide": guide}))
    torch.testing.assert_close(guided, plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_positives_stay_whatever_the_guide_says(name: str) -> None:
    """With every negative masked only positives are left: clip of one positive each is 0."""
    a, b = unit(5, 6), unit(5, 6)
    guide = Guide(unit(5, 4), unit(5, 4), margin=3.0)
    loss, *gradients = outcome(objectives()[name], a, b, guide=guide)
    logits = 7.0 * (a * b).sum(1)
    expected = torch.zeros((), dtype=torch.float64) if name == "clip" else F.softplus(-(logits - 1.0)).mean()
    torch.testing.assert_close(loss, expected)
    assert all(gradient.isfinite().all() for gradient in gradients)
    terms = objectives()[name](Embedding(a), Embedding(b), guide=guide).terms
    assert float(terms["masked"]) == pytest.approx(4 / 5)


def test_a_guide_of_groups_masks_as_content_does() -> None:
    """Equal guide vectors, and a margin: the copies of a sample leave the sum, as columns that are not there."""
    a, b = unit(4, 6), unit(4, 6)
    twins = torch.eye(3, dtype=torch.float64)[torch.tensor([0, 0, 1, 2])]
    loss = ClipObjective(7.0, None).double()(Embedding(a), Embedding(b), guide=Guide(twins, twins, 0.1)).loss
    logits = 7.0 * a @ b.T
    logits[0, 1] = logits[1, 0] = -torch.inf
    target = torch.arange(4)
    torch.testing.assert_close(loss, (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2)


def test_objectives_without_a_use_for_it_refuse_a_guide() -> None:
    e = Embedding(unit(2, 4))
    with pytest.raises(UserError, match="LateInteractionObjective has no negatives that a guide could leave out"):
        LateInteractionObjective()(e, e, guide=Guide(e.vector, e.vector))
    with pytest.raises(UserError, match=r"one shape, got \(2, 4\) and \(2, 3\)"):
        limits(torch.ones(2, 4), torch.ones(2, 3))
