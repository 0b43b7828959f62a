"""Which tokens answer to which: tables that add up to what the objective scores."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.codebook import FdtObjective
from mmalign.objectives.contrastive import ClipObjective
from mmalign.objectives.functional.sparse_codebook import ground
from mmalign.objectives.functional.token_correspondence import attention_shares, code_shares
from mmalign.objectives.late_interaction import LateInteractionObjective
from mmalign.objectives.local import LocalObjective
from mmalign.objectives.objective import Objective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.objectives.parts.correspondence import Coded
from mmalign.objectives.transport import TransportObjective
from mmalign.types import Embedding, Tokens

SETS = [TransportObjective(tolerance=1e-10, max_iterations=5000), LateInteractionObjective(), LocalObjective()]
names = pytest.mark.parametrize("objective", SETS, ids=lambda one: type(one).__name__)


def level(*real: bool, seed: int = 0, dim: int = 6) -> Tokens:
    """Unit vectors of one sample, NaN in the pads."""
    draw, mask = torch.Generator().manual_seed(seed), torch.tensor([real])
    values = F.normalize(torch.randn(1, len(real), dim, generator=draw, dtype=torch.float64), dim=2)
    return Tokens(values.masked_fill(~mask[:, :, None], math.nan), mask)


def side(tokens: Tokens, name: str = "") -> Embedding:
    return Embedding(torch.zeros(1, 6, dtype=torch.float64), tokens=tokens, tower=name)


def dots(a: Tokens, b: Tokens) -> Tensor:
    real = a.mask[0][:, None] & b.mask[0]
    return torch.where(real, a.values[0] @ b.values[0].T, 0.0)


@names
def test_padding_gets_zero_correspondence(objective: Objective) -> None:
    a, b = level(True, False, True, True), level(False, True, True, seed=1)
    table = objective.correspondence(side(a), side(b))
    assert table.shape == (4, 3)
    assert (table[1] == 0).all()
    assert (table[:, 0] == 0).all()
    assert (table >= 0).all()
    assert_close(table.sum(), torch.ones((), dtype=torch.float64))
    short = objective.correspondence(
        side(Tokens(a.values[:, a.mask[0]], a.mask[:, a.mask[0]])),
        side(Tokens(b.values[:, b.mask[0]], b.mask[:, b.mask[0]])),
    )
    assert_close(table[a.mask[0]][:, b.mask[0]], short)


@names
def test_exchanging_the_sides_transposes_the_scores(objective: Objective) -> None:
    a, b = level(True, True, True), level(True, True, True, True, False, seed=1)
    there, back = objective.correspondence(side(a), side(b)), objective.correspondence(side(b), side(a))
    assert_close(there, back.T, rtol=0, atol=1e-6)


@names
def test_equal_tokens_correspond_to_themselves(objective: Objective) -> None:
    same = Tokens(torch.eye(5, dtype=torch.float64)[None], torch.ones(1, 5, dtype=torch.bool))
    table = objective.correspondence(side(same), side(same))
    assert_close(table, torch.eye(5, dtype=torch.float64) / 5, rtol=0, atol=2e-4)  # softmax(1 / 0.1) leaves 5e-5


@names
def test_one_token_and_none(objective: Objective) -> None:
    a = level(True, True, True)
    assert_close(objective.correspondence(side(a), side(level(True))).sum(), torch.ones((), dtype=torch.float64))
    nothing = objective.correspondence(side(a), side(level(False, False)))
    assert (nothing == 0).all()


def test_a_plan_has_even_marginals_and_gives_the_score() -> None:
    a, b = level(True, True, False, True), level(True, True, seed=1)
    objective = SETS[0]
    plan = objective.correspondence(side(a), side(b))
    third = 1 / 3
    assert_close(plan.sum(1), torch.tensor([third, third, 0, third], dtype=torch.float64))
    assert_close(plan.sum(0), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert_close((plan * dots(a, b)).sum(), objective.similarity(side(a), side(b))[0, 0])


def test_the_plan_uses_the_levels_and_costs_of_its_objective() -> None:
    a, b = level(True, True, True), level(True, True, seed=1)
    apart = Embedding(torch.zeros(1, 6), tokens=a, parts=b)
    table = TransportObjective(level_a="parts").correspondence(apart, side(a))
    assert table.shape == (2, 3)
    loose = TransportObjective(rho_b=0.01).correspondence(side(a), side(b))
    assert_close(loose.sum(1), torch.full((3,), 1 / 3, dtype=torch.float64))
    assert float((loose.sum(0) - 0.5).abs().max()) > 0.01, "columns may be left behind"


def test_best_partners_by_a_loop() -> None:
    a, b = level(True, True, True, False), level(True, True, False, True, True, seed=1)
    table, alike = torch.zeros(4, 5, dtype=torch.float64), dots(a, b)
    rows, columns = [0, 1, 2], [0, 1, 3, 4]
    for k in rows:
        table[k, max(columns, key=lambda r: float(alike[k, r]))] += 1 / (2 * len(rows))
    for r in columns:
        table[max(rows, key=lambda k: float(alike[k, r])), r] += 1 / (2 * len(columns))
    objective = SETS[1]
    assert_close(objective.correspondence(side(a), side(b)), table)
    assert_close((table * alike).sum(), objective.similarity(side(a), side(b))[0, 0])


def test_attention_by_a_loop() -> None:
    a, b = level(True, True, False), level(True, False, True, True, seed=1)
    table, alike = torch.zeros(3, 4, dtype=torch.float64), dots(a, b)
    rows, columns = [0, 1], [0, 2, 3]
    for k in rows:
        for r in columns:
            forth = math.exp(alike[k, r] / 0.2) / math.fsum(math.exp(alike[k, x] / 0.2) for x in columns)
            back = math.exp(alike[k, r] / 0.2) / math.fsum(math.exp(alike[x, r] / 0.2) for x in rows)
            table[k, r] = (forth / len(rows) + back / len(columns)) / 2
    objective = LocalObjective(attention_temperature=0.2)
    assert_close(objective.correspondence(side(a), side(b)), table)
    long = Tokens(a.values * 7, a.mask)
    assert_close(objective.correspondence(side(long), side(b)), table)
    assert (attention_shares(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool), 0.1) == 0).all()


@pytest.mark.parametrize("activation", ["sparsemax", "softmax"])
def test_codes_are_shared_by_the_tokens_of_high_score(activation: str) -> None:
    draw = torch.Generator().manual_seed(3)
    codebook = torch.randn(40, 6, generator=draw, dtype=torch.float64)
    sides = []
    for queries in (level(True, True, False, True), level(True, True, seed=1)):
        weights = ground(queries.values, queries.mask, codebook, 2.0, activation=activation)  # type: ignore[arg-type]
        shares = code_shares(queries.values[0], queries.mask[0], codebook, weights[0])
        assert_close(shares.sum(0), weights[0])
        assert (shares[~queries.mask[0]] == 0).all()
        scores = torch.where(queries.mask[0][:, None], queries.values[0] @ codebook.T, -math.inf)
        for code in range(40):
            assert int(shares[:, code].argmax()) == max(range(len(scores)), key=lambda t: float(scores[t, code])) or (
                float(weights[0, code]) == 0
            )
            of_code = [float(score) for score in scores[queries.mask[0], code]]
            mean = math.fsum(of_code) / len(of_code)
            spread = math.sqrt(math.fsum((score - mean) ** 2 for score in of_code) / len(of_code))
            powers = [math.exp((score - max(of_code)) / (0.5 * spread)) for score in of_code]
            expected = [float(weights[0, code]) * power / math.fsum(powers) for power in powers]
            assert shares[queries.mask[0], code].tolist() == pytest.approx(expected, abs=1e-12)
        sides.append(Coded(torch.zeros(1, 6), codes=weights, token_codes=Tokens(shares[None], queries.mask)))
    table = FdtObjective().correspondence(*sides)
    assert table.shape == (4, 2)
    assert_close(table.sum(), (sides[0].codes @ sides[1].codes.T)[0, 0])
    assert float(table.sum()) > 0
    plain = Embedding(torch.zeros(1, 6), tokens=level(True), codes=sides[0].codes)
    with pytest.raises(UserError, match="keeps the codes of each token"):
        FdtObjective().correspondence(plain, sides[1])


def pair_sum(*terms: PairConfig) -> PairSum:
    return PairSum(list(terms), 6)


def test_the_first_supported_term_is_used() -> None:
    a, b = side(level(True, True, True), "x"), side(level(True, True, seed=1), "y")
    terms = [
        PairConfig("x", "y"),
        PairConfig("y", "x", "late_interaction"),
        PairConfig("x", "y", "transport"),
        PairConfig("x", "y", "transport", {"level_b": "parts"}),
    ]
    model = pair_sum(*terms)
    found = model.correspondence(a, b)
    assert found.term == "y_x"
    assert_close(found.weights, SETS[1].correspondence(a, b))
    assert_close(model.correspondence(b, a).weights, found.weights.T)
    named = model.correspondence(a, b, "transport")
    assert named.term == "x_y_transport"
    assert_close(named.weights, TransportObjective().correspondence(a, b))
    both = Embedding(b.vector, tokens=b.tokens, parts=level(True, seed=4), tower="y")
    third = model.correspondence(both, a, "x_y_transport-2")
    assert (third.level_a, third.level_b) == ("parts", "tokens")
    assert third.weights.shape == (1, 3)
    with pytest.raises(UserError, match=r"no term 'transprot' .*did you mean 'transport'"):
        model.correspondence(a, b, "transprot")
    with pytest.raises(UserError, match="no objective joins"):
        model.correspondence(a, a)  # a cosine of vectors says nothing about tokens


def test_an_unsupported_objective_names_the_supported_ones() -> None:
    a, b = side(level(True), "x"), side(level(True), "y")
    with pytest.raises(
        UserError, match=r"ClipObjective compares whole samples.*transport, late_interaction, token_mean, fdt"
    ):
        pair_sum(PairConfig("x", "y")).correspondence(a, b)
    with pytest.raises(UserError, match="objectives that have one"):
        ClipObjective().correspondence(a, b)


@names
def test_bad_input_is_named(objective: Objective) -> None:
    two = Tokens(torch.zeros(2, 1, 6), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(UserError, match="one sample of each tower, got 2 and 1"):
        objective.correspondence(side(two), side(level(True)))
    broken = Tokens(torch.full((1, 1, 6), math.nan), torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(UserError, match="expected finite tokens"):
        objective.correspondence(side(broken), side(level(True)))
    with pytest.raises(UserError, match="no tokens"):
        objective.correspondence(Embedding(torch.zeros(1, 6)), side(level(True)))


def test_shares_of_one_token_of_equal_tokens_and_of_none() -> None:
    codebook, weights = torch.eye(3), torch.tensor([0.5, 0.3, 0.2])
    one = code_shares(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([True]), codebook, weights)
    assert_close(one[0], weights)
    equal = code_shares(torch.ones(4, 3), torch.tensor([True, True, False, False]), codebook, weights)
    assert_close(equal, torch.tensor([[0.5], [0.5], [0.0], [0.0]]) * weights)
    none = code_shares(torch.full((2, 3), math.nan), torch.zeros(2, dtype=torch.bool), codebook, weights)
    assert (none == 0).all()
