"""The walk over every registered objective with hard numbers: not finite, extreme, padded, missing, half precision."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.objective import Objective
from mmalign.objectives.parts.logit_scale import ScaledObjective
from mmalign.types import Embedding, Tokens
from tests.contract.made import build, leaves, side, trained_towers
from tests.gradients import gradcheck

NAMES = list(registry.names("objectives"))
FIELDS = ["vector", "log_variance", "tokens", "parts", "codes", "grounded", "reconstructed", "original", "decoded"]
ARGUMENTS: dict[str, dict[str, Any]] = {
    # The plan has a gradient too, and is solved far enough for finite differences.
    "transport": {"gradient": "implicit", "epsilon": 0.3, "tolerance": 1e-13, "max_iterations": 5000},
    "pcmepp": {"bottleneck": 0.1, "pseudo_weight": 0.5},
    "prolip": {"bottleneck": 0.1, "inclusion": 0.1},
}
"""What shows all of an objective's gradient to finite differences; others have their defaults."""
WITH_OWN_TARGETS = {"prototypes", "views"}
"""Those that are trained towards targets of their own making, through which no gradient goes by intent."""
SYMMETRIC: dict[str, dict[str, Any]] = {"transport": {"tolerance": 1e-5, "max_iterations": 1000}}
"""What makes the sides equal, as far as that is asked: a solver that stops early has seen one side last."""
ONE_WAY = {"distillation"}
"""Those for which side a is something else than side b."""


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "partial transport": ("transport", {"mass": 0.5}),
    "kept tokens": ("late_interaction", {"keep": 0.5}),
}
"""Arguments that lead to other formulas, beside every objective with its defaults."""


@pytest.fixture(params=[*NAMES, *VARIANTS])
def objective(request: pytest.FixtureRequest) -> Objective:
    name, arguments = VARIANTS.get(request.param, (request.param, {}))
    return build(name, **arguments).eval()


def sides(objective: Objective, rows: int = 6) -> tuple[Embedding, Embedding]:
    return side(objective, rows, seed=1), side(objective, rows, seed=2)


def changed(embedding: Embedding, change: Callable[[Tensor], Tensor]) -> Embedding:
    """Fresh leaves, each field by itself."""
    given = embedding.map(lambda field: change(field.detach().clone()))
    needed = {name for name in FIELDS if getattr(embedding, name) is not None and name != "vector"}
    for name in needed | ({"vector"} if embedding.vector.requires_grad else set()):
        field = getattr(given, name)
        (field.values if isinstance(field, Tokens) else field).requires_grad_()
    return given


def outcome(objective: Objective, a: Embedding, b: Embedding, groups: Tensor | None = None) -> list[Tensor]:
    """The loss and every gradient, those of fields that play no part left out."""
    objective.zero_grad()
    loss = objective(a, b, groups).loss
    loss.backward()
    assert loss.isfinite()
    found = [leaf.grad for one in (a, b) for leaf in all_leaves(one) if leaf.grad is not None]
    found += [parameter.grad.clone() for parameter in objective.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in found)
    return [loss.detach(), *found]


def all_leaves(one: Embedding) -> list[Tensor]:
    return [*leaves(one), *([one.grounded] if one.grounded is not None and one.grounded.is_leaf else [])]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_OWN_TARGETS])
@pytest.mark.parametrize("groups", [None, torch.tensor([0, 1, 0, 2])], ids=["pairs", "groups"])
def test_gradients_by_finite_differences(name: str, groups: Tensor | None) -> None:
    objective = build(name, **ARGUMENTS.get(name, {})).double()
    a, b = (changed(one, Tensor.double) for one in sides(objective, 4))
    objective(a, b)  # where a bias comes from the first batch, it comes from this one
    towers = trained_towers(objective)
    reached = [leaf for key, one in (("a", a), ("b", b)) if key in towers for leaf in all_leaves(one)]
    inputs = [*reached, *(parameter for parameter in objective.parameters() if parameter.requires_grad)]
    loss = objective(a, b, groups).loss
    assert loss.dtype == torch.float64
    assert gradcheck(lambda *_: objective(a, b, groups).loss, inputs, fast_mode=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", [0, 1], ids=["a", "b"])
def test_non_finite_values_are_errors_or_defined(objective: Objective, bad: float, which: int) -> None:
    """Never a loss of NaN: training would go on with weights of NaN."""
    for name in FIELDS:
        pair = [changed(one, Tensor.clone) for one in sides(objective)]
        field = getattr(pair[which], name)
        if field is None or (name == "vector" and "vector" not in objective.needs):
            continue
        with torch.no_grad():
            (field.values[:, 0] if isinstance(field, Tokens) else field)[1, 0] = bad  # the first token is always real
        message = "finite"
        try:
            outcome(objective, *pair)
        except UserError as error:
            message = str(error)
        assert "finite" in message


def test_values_in_padding_are_ignored(objective: Objective) -> None:
    def padded(one: Embedding, more: int, filler: float) -> Embedding:
        def pad(levels: Tokens | None) -> Tokens | None:
            if levels is None:
                return None
            mask = F.pad(levels.mask, (0, more))
            values = F.pad(levels.values.detach(), (0, 0, 0, more)).masked_fill(~mask[:, :, None], filler)
            return Tokens(values.requires_grad_(), mask)

        made = changed(one, Tensor.clone)
        names = ("tokens", "parts", "reconstructed", "original", "decoded")
        return replace(made, **{name: pad(getattr(made, name)) for name in names})

    found = []
    for more, filler in ((0, 0.0), (3, math.nan)):
        a, b = (padded(one, more, filler) for one in sides(objective))
        numbers = outcome(objective, a, b)
        for one in (a, b):
            for levels in (one.tokens, one.parts, one.reconstructed, one.decoded):
                assert levels is None or levels.values.grad is None or not levels.values.grad[~levels.mask].any()
        real = [number[:, :3] if number.ndim == 3 and number.shape[2] == 16 else number for number in numbers]
        found.append([*real, objective.similarity(a, b).detach()])
    assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_sample_without_tokens_does_not_affect_others(objective: Objective) -> None:
    """Its vector, where that stands for its tokens or codes, is zero; so is what is made of its codes."""

    def emptied(one: Embedding) -> Embedding:
        made = changed(one, Tensor.clone)
        for levels in (made.tokens, made.parts):
            if levels is not None:
                levels.mask[1] = False
        with torch.no_grad():
            for field in (made.vector, made.codes, made.grounded):
                if field is not None:
                    field[1] = 0.0
        return made

    a, b = sides(objective)
    for pair in ((emptied(a), b), (a, emptied(b)), (emptied(a), emptied(b))):
        outcome(objective, *(changed(one, Tensor.clone) for one in pair))
        scores = objective.similarity(*pair).detach()
        assert scores.isfinite().all()
        others = torch.tensor([0, 2, 3, 4, 5])
        assert_close(scores[others][:, others], objective.similarity(a, b).detach()[others][:, others])


def at_scale(objective: Objective, scale: float) -> Objective:
    for module in objective.modules():
        if isinstance(module, ScaledObjective):
            module.log_scale.data.fill_(math.log(scale))
    return objective


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["equal", "opposite"])
def test_identical_samples_at_the_greatest_scale(objective: Objective, dtype: torch.dtype, sign: float) -> None:
    """exp(100) overflows in float32 already; under autocast the arithmetic is float32's on the rounded numbers."""
    at_scale(objective, 100.0)
    one = side(objective, 1, seed=3)[torch.zeros(5, dtype=torch.int64)]
    a = changed(one, lambda field: field.to(dtype))
    b = changed(replace(one, vector=sign * one.vector), lambda field: field.to(dtype))
    wide = [changed(each, Tensor.float) for each in (a, b)]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        low = outcome(objective, a, b)
    assert low[0].dtype == torch.float32
    whole = outcome(objective, *wide)
    assert_close(low[0], whole[0], rtol=1e-5, atol=1e-5)
    for found, wanted in zip(low, whole, strict=True):
        assert_close(found.float(), wanted, rtol=1e-2, atol=1e-2)  # a gradient is rounded to the input's type
    assert objective.similarity(a, b).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_under_autocast_the_arithmetic_is_that_of_float32(objective: Objective, dtype: torch.dtype) -> None:
    groups = torch.tensor([0, 1, 0, 2, 3, 3])
    a, b = (changed(one, lambda field: field.to(dtype)) for one in sides(objective))
    wide = [changed(one, Tensor.float) for one in (a, b)]
    with torch.autocast("cpu", dtype):
        low = objective(a, b, groups).loss.detach(), objective.similarity(a, b).detach()
    assert_close(
        low, (objective(*wide, groups).loss.detach(), objective.similarity(*wide).detach()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
def test_exchanging_the_towers_changes_nothing(name: str) -> None:
    objective, groups = build(name, **SYMMETRIC.get(name, {})).eval(), torch.tensor([0, 1, 0, 2, 3, 3])
    a, b = sides(objective)
    assert_close(objective.similarity(b, a), objective.similarity(a, b).T, rtol=1e-4, atol=1e-5)
    if name not in ONE_WAY:
        assert_close(objective(b, a, groups).loss, objective(a, b, groups).loss, rtol=1e-4, atol=1e-5)


def test_inputs_are_not_modified(objective: Objective) -> None:
    objective.train()
    a, b = (changed(one, Tensor.clone) for one in sides(objective))
    before = [changed(one, Tensor.clone) for one in (a, b)]
    groups = torch.tensor([3, 1, 3, 2, 0, 0])
    outcome(objective, a, b, groups)
    objective.similarity(a, b)
    assert groups.tolist() == [3, 1, 3, 2, 0, 0]
    for now, then in zip((a, b), before, strict=True):
        assert_close([leaf.detach() for leaf in all_leaves(now)], [leaf.detach() for leaf in all_leaves(then)])
