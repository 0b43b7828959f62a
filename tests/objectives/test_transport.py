import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.similarity_cross_entropy import similarity_cross_entropy
from mmalign.objectives.functional.transport import set_similarity as module
from mmalign.objectives.functional.transport.set_similarity import transport_scores
from mmalign.objectives.transport import TransportObjective
from mmalign.types import Embedding, Tokens
from tests.gradients import gradcheck
from tests.reference import transport as reference

ot = pytest.importorskip("ot")

EXACT: dict[str, Any] = {"tolerance": 1e-12, "max_iterations": 5000}
A, B = [4, 1, 3, 6], [2, 5, 5]


def level(*lengths: int, seed: int = 0, dim: int = 6, pad: int = 0, dtype: torch.dtype = torch.float64) -> Tokens:
    """Unit vectors, NaN in the pads."""
    mask = torch.arange(max(lengths) + pad) < torch.tensor(lengths)[:, None]
    values = torch.zeros(*mask.shape, dim, dtype=torch.float64)
    for row, length in enumerate(lengths):  # the same whatever the padding is
        draw = torch.Generator().manual_seed(100 * seed + row)
        values[row, :length] = F.normalize(torch.randn(length, dim, generator=draw, dtype=torch.float64), dim=1)
    return Tokens(values.to(dtype).masked_fill(~mask[:, :, None], math.nan).requires_grad_(), mask)


def side(tokens: Tokens | None = None, parts: Tokens | None = None) -> Embedding:
    rows = len((tokens or parts).mask)  # type: ignore[union-attr]
    return Embedding(torch.zeros(rows, 5), tokens=tokens, parts=parts)


def alike(a: Tokens, b: Tokens, i: int, j: int) -> np.ndarray:
    """Dot products of the real tokens of one pair."""
    return (a.values[i, a.mask[i]] @ b.values[j, b.mask[j]].T).detach().numpy()


def by_loops(a: Tokens, b: Tokens, plan: Any) -> Tensor:
    scores = torch.zeros(len(a.mask), len(b.mask), dtype=torch.float64)
    for i in range(len(a.mask)):
        for j in range(len(b.mask)):
            dots = alike(a, b, i, j)
            if dots.size:
                scores[i, j] = float((plan(1 - dots) * dots).sum())
    return scores


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 0.04])
def test_equals_pot_pair_by_pair(epsilon: float) -> None:
    a, b = level(*A), level(*B, seed=1)

    def plan(cost: np.ndarray) -> np.ndarray:
        return ot.sinkhorn(ot.unif(len(cost)), ot.unif(len(cost.T)), cost, epsilon, numItermax=50000, stopThr=1e-13)

    found = TransportObjective(epsilon=epsilon, **EXACT).similarity(side(a), side(b))
    assert_close(found, by_loops(a, b, plan), rtol=1e-8, atol=1e-9)


def test_at_small_epsilon_the_plan_is_the_optimal_assignment() -> None:
    a, b = level(*A), level(*B, seed=1)

    def plan(cost: np.ndarray) -> np.ndarray:
        return ot.emd(ot.unif(len(cost)), ot.unif(len(cost.T)), cost)

    wanted = by_loops(a, b, plan)
    for dtype, atol in ((torch.float64, 1e-3), (torch.float32, 2e-3)):
        objective = TransportObjective(epsilon=1e-3, tolerance=1e-4, max_iterations=500)
        x, y = level(*A, dtype=dtype), level(*B, seed=1, dtype=dtype)
        found = objective.similarity(side(x), side(y))
        assert_close(found.double(), wanted, rtol=0, atol=atol)
        objective(side(x)[:3], side(y)).loss.backward()
        assert all(one.values.grad[one.mask].isfinite().all() for one in (x, y))


@pytest.mark.parametrize(("rho_a", "rho_b"), [(None, 0.5), (0.2, None), (0.7, 0.3)])
def test_mass_can_stay_unmatched_at_a_cost(rho_a: float | None, rho_b: float | None) -> None:
    a, b = level(*A), level(*B, seed=1)
    inf = math.inf

    def plan(cost: np.ndarray) -> np.ndarray:
        n, m = cost.shape
        return reference.sinkhorn(cost, 0.2, [1 / n] * n, [1 / m] * m, rho_a or inf, rho_b or inf, 400)[0]

    objective = TransportObjective(epsilon=0.2, rho_a=rho_a, rho_b=rho_b, **EXACT)
    assert_close(objective.similarity(side(a), side(b)), by_loops(a, b, plan), rtol=1e-8, atol=1e-9)


def test_finite_rho_leaves_a_token_unmatched() -> None:
    both, one = torch.eye(2, dtype=torch.float64)[None], torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    a, b = (Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool)) for values in (one, both))

    def score(rho: float | None) -> float:
        return float(TransportObjective(rho_b=rho, **EXACT).similarity(side(a), side(b)))

    assert score(None) == pytest.approx(0.5)  # half of the mass must go to a token that is nothing like it
    assert score(1e4) == pytest.approx(0.5, abs=1e-3)
    assert score(0.05) > 0.9


@pytest.mark.parametrize("cells", [1, 200, 2**20])
@pytest.mark.parametrize("named", [EXACT, {}, {"epsilon": 0.01}, {"rho_b": 0.3}], ids=str)
def test_scores_do_not_depend_on_the_rest_of_the_batch(
    cells: int, named: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Score and gradient of each pair are what they are alone, whatever the batch, the padding and the tile are."""
    monkeypatch.setitem(module.CELLS, "cpu", cells)
    objective = TransportObjective(**named)
    a, b = level(*A, pad=3), level(*B, seed=1, pad=2)
    weights = torch.randn(len(A), len(B), dtype=torch.float64)
    scores = objective.similarity(side(a), side(b))
    (scores * weights).sum().backward()
    alone_a, alone_b = level(*A), level(*B, seed=1)
    for i, rows in enumerate(A):
        for j, columns in enumerate(B):
            x = Tokens(alone_a.values[i : i + 1, :rows], alone_a.mask[i : i + 1, :rows])
            y = Tokens(alone_b.values[j : j + 1, :columns], alone_b.mask[j : j + 1, :columns])
            score = objective.similarity(side(x), side(y))[0, 0]
            assert_close(scores[i, j].detach(), score.detach(), rtol=0, atol=1e-12)
            (score * weights[i, j]).backward()
    for one, alone in ((a, alone_a), (b, alone_b)):
        assert_close(one.values.grad[one.mask], alone.values.grad[alone.mask], rtol=0, atol=1e-10)
        assert one.values.grad[~one.mask].abs().sum() == 0


@pytest.mark.parametrize("gradient", ["implicit", "envelope", "last_step", "unrolled"])
def test_tiles_change_no_gradient(gradient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cells in (2**20, 1):
        monkeypatch.setitem(module.CELLS, "cpu", cells)
        a, b = level(*A), level(*B, 2, seed=1)
        objective = TransportObjective(epsilon=0.2, gradient=gradient, **{**EXACT, "max_iterations": 40}).double()
        loss = objective(side(a), side(b), torch.tensor([0, 1, 0, 2])).loss
        loss.backward()
        found.append([loss.detach(), objective.log_scale.grad, a.values.grad, b.values.grad])
    assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_gradients_of_the_envelope_and_of_the_optimum() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[1, 2] = False
    a = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()
    b = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()
    named: dict[str, Any] = {"epsilon": 2.0, "gradient": "implicit", **EXACT}
    assert gradcheck(lambda x, y: transport_scores(x, mask, y, mask, **named), (a, b))
    # With the plan as a constant, the gradient of a token is the plan's mixture of those that it goes to.
    score = transport_scores(a[:1], mask[:1], b[:1], mask[:1], **{**named, "gradient": "envelope"})
    (found,) = torch.autograd.grad(score.sum(), a)
    plan, _ = reference.sinkhorn((1 - a[0] @ b[0].T).detach().numpy(), 2.0, [1 / 3] * 3, [1 / 3] * 3)
    assert_close(found[0], torch.from_numpy(plan) @ b[0].detach())


@pytest.mark.parametrize("groups", [None, torch.tensor([4, 0, 4])])
def test_the_loss_is_cross_entropy_of_the_scaled_scores(groups: Tensor | None) -> None:
    a, b = level(*A[:3]), level(*B, seed=1)
    objective = TransportObjective(initial_scale=7.0).double()
    output = objective(side(a), side(b), groups)
    assert_close(output.loss, similarity_cross_entropy(7 * objective.similarity(side(a), side(b)), groups=groups))
    assert_close(output.terms["scale"], torch.tensor(7.0, dtype=torch.float64))
    output.loss.backward()
    assert objective.log_scale.grad.abs().item() > 0


@pytest.mark.parametrize("mass", [0.3, 0.7])
def test_partial_transport_equals_the_definition_written_as_loops(mass: float) -> None:
    """Also row by row, and as a correspondence, which sums to one."""
    a, b = level(*A[:3]), level(*B, seed=1)
    objective = TransportObjective(mass=mass, epsilon=0.3, **EXACT)

    def plan(cost: np.ndarray) -> np.ndarray:
        n, m = cost.shape
        return reference.partial_sinkhorn(cost, 0.3, [1 / n] * n, [1 / m] * m, mass)[0] / mass

    wanted = by_loops(a, b, plan)
    assert_close(objective.similarity(side(a), side(b)), wanted, rtol=1e-6, atol=1e-8)
    assert_close(objective.similarity_pairwise(side(a), side(b)), wanted.diagonal(), rtol=1e-6, atol=1e-8)
    table = objective.correspondence(side(a[:1]), side(b[:1]))[: A[0], : B[0]]
    assert_close(table, torch.from_numpy(plan(1 - alike(a, b, 0, 0))), rtol=1e-6, atol=1e-8)


def test_partial_transport_leaves_out_what_has_no_counterpart() -> None:
    """One of two tokens has its like: half of the mass finds a similarity of 1, all of it one of 1/2."""
    real, eye = torch.ones(1, 2, dtype=torch.bool), torch.eye(3, dtype=torch.float64)
    a, b = side(Tokens(eye[None, :2], real)), side(Tokens(eye[None, ::2], real))
    for mass, score in ((0.5, 1.0), (1.0, 0.5), (None, 0.5)):
        found = TransportObjective(mass=mass, epsilon=0.02, **EXACT).similarity(a, b)
        assert_close(found, torch.tensor([[score]], dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mass": 0.0}, "mass: expected a fraction above 0 and at most 1, got 0"),
        ({"mass": 1.5}, "mass: expected a fraction above 0 and at most 1, got 1.5"),
        ({"mass": 0.5, "rho_b": 1.0}, "mass and rho_a or rho_b exclude each other"),
    ],
)
def test_invalid_masses_are_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TransportObjective(**arguments)


def test_tokens_can_be_compared_with_parts() -> None:
    fine, coarse = level(*A), level(*B, seed=1)
    objective = TransportObjective(level_b="parts")
    assert objective.needs == {"tokens", "parts"}
    assert objective.tower_needs("a") == {"tokens"}
    assert objective.tower_needs("b") == {"parts"}
    assert_close(
        objective.similarity(side(fine), side(parts=coarse)), TransportObjective().similarity(side(fine), side(coarse))
    )
    turned = TransportObjective(level_a="parts", **EXACT).similarity(side(parts=coarse), side(fine))
    straight = TransportObjective(level_b="parts", **EXACT).similarity(side(fine), side(parts=coarse))
    assert_close(turned, straight.T, rtol=0, atol=1e-9)
    with pytest.raises(UserError, match="have no parts"):
        objective.similarity(side(fine), side(coarse))


def test_a_sample_without_tokens_has_score_and_gradient_zero() -> None:
    a, b = level(3, 0, 2), level(2, 2, 0, seed=1)
    objective = TransportObjective().double()
    scores = objective.similarity(side(a), side(b))
    assert not scores[1].any()
    assert not scores[:, 2].any()
    objective(side(a), side(b)).loss.backward()
    for one in (a, b):
        assert one.values.grad.isfinite().all()
        assert one.values.grad[~one.mask].abs().sum() == 0
    nothing = level(0, 0, pad=2)
    assert not objective.similarity(side(nothing), side(b)).any()


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 2, 0), (0, 0, 0, 0)], ids=str)
@pytest.mark.parametrize("cells", [1, 2**20])
def test_an_empty_batch_gives_empty_outputs(
    shape: tuple[int, ...], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.CELLS, "cpu", cells)
    n, rows, m, columns = shape
    a, b = torch.ones(n, rows, 4, requires_grad=True), torch.ones(m, columns, 4)
    found = transport_scores(a, torch.ones(n, rows).bool(), b, torch.ones(m, columns).bool())
    assert_close(found, torch.zeros(n, m))
    found.sum().backward()
    assert a.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_closed_forms_at_the_greatest_scale(dtype: torch.dtype) -> None:
    tokens = level(3, dtype=dtype)
    same = Tokens(tokens.values.expand(4, -1, -1), tokens.mask.expand(4, -1))
    objective = TransportObjective(initial_scale=100.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = objective(side(same), side(same)).loss
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), torch.tensor(math.log(4)), rtol=1e-5, atol=0)
    loss.backward()
    assert tokens.values.grad.isfinite().all()
    own = Tokens(torch.eye(5, dtype=dtype)[:4, None], torch.ones(4, 1, dtype=torch.bool))
    assert float(objective(side(own), side(own)).loss.detach()) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_values_are_errors(bad: float) -> None:
    """Where the other side has no token too: its own score would be 0 times NaN."""
    a, b = level(2, 2), level(0, 0, seed=1, pad=2)
    values = a.values.detach().clone()
    values[1, 0, 0] = bad
    for pair in ((side(Tokens(values, a.mask)), side(b)), (side(b), side(Tokens(values, a.mask)))):
        with pytest.raises(UserError, match="finite tokens wherever the mask is True"):
            TransportObjective().similarity(*pair)


def test_wrong_shapes_are_named() -> None:
    tokens, mask = torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(UserError, match=r"tower b: expected tokens \(batch, length, dim\)"):
        transport_scores(tokens, mask, tokens, mask[:, :2])
    with pytest.raises(UserError, match=r"tower a: .* boolean mask .*, got .* of torch.float32"):
        transport_scores(tokens, mask.float(), tokens, mask)
    with pytest.raises(UserError, match="tokens of one width, got 4 and 3"):
        transport_scores(tokens, mask, tokens[:, :, :3], mask)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: expected a finite number above 0, got 0.0"),
        ({"rho_a": -1.0}, "rho_a: expected a finite number above 0, got -1.0"),
        ({"rho_b": math.inf}, "rho_b: expected a finite number above 0, got inf"),
        ({"tolerance": math.nan}, "tolerance: expected"),
        ({"max_iterations": 0}, "max_iterations: expected at least 1, got 0"),
        ({"gradient": "exact"}, "gradient: expected one of implicit, envelope, last_step, unrolled, got 'exact'"),
        ({"level_a": "atoms"}, "level must be tokens or parts, got 'atoms'"),
    ],
)
def test_wrong_settings_are_named_when_they_are_read(named: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TransportObjective(**named)


def test_buckets_of_similar_length_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [3, 9, 1, 4, 4, 12, 2, 7, 5, 1, 8, 3, 6, 2, 10, 11, 4, 3]
    first, second = [], []
    for groups in (module.BUCKETS, 1):
        monkeypatch.setattr(module, "BUCKETS", groups)
        a, b = level(*lengths, seed=1), level(*lengths[::-1], 7, seed=2, pad=3)
        scores = transport_scores(a.values, a.mask, b.values, b.mask, **EXACT)
        first.append(scores)
        second.append(
            torch.autograd.grad((scores * torch.arange(scores.numel()).view_as(scores)).sum(), [a.values, b.values])
        )
    assert_close(first[0], first[1], atol=1e-8, rtol=0)
    for one, other in zip(*second, strict=True):
        assert_close(one, other, atol=1e-6, rtol=1e-6)
