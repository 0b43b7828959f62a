import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.functional.computing.similarity_cross_entropy import similarity_cross_entropy
from mmalign.objectives.functional.late_interaction import keep_best_tokens
from mmalign.objectives.late_interaction import LateInteractionObjective
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Embedding, Tokens
from tests.reference import late_interaction as reference

GROUPS = torch.tensor([4, 0, 4, 1])


def level(*lengths: int, seed: int = 0, dim: int = 5) -> Tokens:
    """Unit vectors, NaN in the pads."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    draw = torch.Generator().manual_seed(seed)
    values = F.normalize(torch.randn(*mask.shape, dim, generator=draw, dtype=torch.float64), dim=2)
    return Tokens(values.masked_fill(~mask[:, :, None], math.nan).requires_grad_(), mask)


def side(tokens: Tokens | None = None, parts: Tokens | None = None, modality: str = "") -> Embedding:
    rows = len((tokens or parts).mask)  # type: ignore[union-attr]
    return Embedding(torch.zeros(rows, 5, dtype=torch.float64), tokens=tokens, parts=parts, tower=modality)


def by_loops(a: Tokens, b: Tokens) -> tuple[Tensor, Tensor]:
    real = [[values[mask].detach().numpy() for values, mask in zip(t.values, t.mask, strict=True)] for t in (a, b)]
    forth, back = reference.late_interaction(*real)
    return torch.from_numpy(forth), torch.from_numpy(back)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_equals_the_paper_written_as_loops(groups: Tensor | None) -> None:
    """`forth` scores the rows and `back` the columns; exchanging them changes the loss."""
    a, b = level(3, 1, 4, 2), level(2, 5, 1, 3, seed=1)
    objective = LateInteractionObjective(initial_scale=7.0).double()
    output = objective(side(a), side(b), groups)
    forth, back = by_loops(a, b)
    assert_close(output.loss, similarity_cross_entropy(7 * forth, 7 * back, groups=groups))
    assert abs(float(output.loss.detach() - similarity_cross_entropy(7 * back, 7 * forth, groups=groups))) > 1e-3
    assert_close(objective.similarity(side(a), side(b)), (forth + back) / 2)
    output.loss.backward()
    assert objective.log_scale.grad.abs().item() > 0
    assert all(one.values.grad[one.mask].abs().sum() > 0 for one in (a, b))


def test_each_tower_can_have_another_level() -> None:
    fine, coarse = level(3, 1, 4), level(2, 2, 1, seed=1)
    objective = LateInteractionObjective(level_b="parts").double()
    assert objective.needs == {"tokens", "parts"}
    assert objective.tower_needs("a") == {"tokens"}
    assert objective.tower_needs("b") == {"parts"}
    forth, back = by_loops(fine, coarse)
    scale = 1 / 0.07
    found = objective(side(fine), side(parts=coarse)).loss
    assert_close(found, similarity_cross_entropy(scale * forth, scale * back), rtol=1e-6, atol=0)
    assert_close(objective.similarity(side(fine), side(parts=coarse)), (forth + back) / 2)
    with pytest.raises(UserError, match="beats have no parts"):
        objective(side(fine), side(coarse, modality="beats"))
    with pytest.raises(UserError, match="this tower have no tokens"):
        objective.similarity(side(parts=fine), side(parts=coarse))
    with pytest.raises(UserError, match="level must be tokens or parts, got 'words'"):
        LateInteractionObjective(level_a="words")


def test_towers_of_a_pair_get_the_heads_of_their_level() -> None:
    pairs = PairSum([PairConfig("x", "y", "late_interaction", {"level_b": "parts"}), PairConfig("y", "z")])
    assert pairs.needs_of("x") == {"tokens"}
    assert pairs.needs_of("y") == {"parts", "vector"}


def test_a_sample_without_tokens_has_score_and_gradient_zero() -> None:
    a, b = level(3, 0, 2), level(2, 2, 0, seed=1)
    objective = LateInteractionObjective().double()
    scores = objective.similarity(side(a), side(b))
    assert not scores[1].any()
    assert not scores[:, 2].any()
    objective(side(a), side(b)).loss.backward()
    for one in (a, b):
        assert one.values.grad.isfinite().all()
        assert one.values.grad[~one.mask].abs().sum() == 0


def test_closed_forms_at_the_greatest_scale() -> None:
    tokens = level(2)
    same = Tokens(tokens.values.expand(4, -1, -1), tokens.mask.expand(4, -1))
    objective = LateInteractionObjective(initial_scale=100.0).double()
    assert_close(float(objective(side(same), side(same)).loss.detach()), math.log(4), rtol=1e-10, atol=0)
    own = Tokens(torch.eye(5, dtype=torch.float64)[:4, None], torch.ones(4, 1, dtype=torch.bool))
    assert float(objective(side(own), side(own)).loss.detach()) < 1e-40


def losses(keep: float, a: Tokens, b: Tokens) -> Tensor:
    return LateInteractionObjective(initial_scale=7.0, keep=keep).double()(side(a), side(b), GROUPS).loss


def test_keeping_all_tokens_is_no_selection() -> None:
    """At 1 to the bit; and the loss of selected tokens that are all tokens is the same."""
    a, b = level(3, 1, 4, 2), level(2, 5, 1, 3, seed=1)
    plain = LateInteractionObjective(initial_scale=7.0).double()(side(a), side(b), GROUPS).loss
    assert_close(losses(1.0, a, b), plain, rtol=0, atol=0)
    assert_close(losses(0.9999, a, b), plain)


def test_keep_limits_the_candidates_not_the_query_tokens() -> None:
    a, b = level(3, 1, 4, 2), level(2, 5, 1, 3, seed=1)

    def kept(one: Tokens, other: Tokens) -> Tokens:
        values = torch.zeros_like(one.values)
        mask = torch.zeros_like(one.mask)
        for row in range(len(mask)):
            own, partner = one.values[row, one.mask[row]], other.values[row, other.mask[row]]
            best = (own @ partner.T).amax(1).tolist()
            count = math.ceil(len(own) / 2)
            index = sorted(sorted(range(len(own)), key=lambda k, best=best: -best[k])[:count])
            values[row, :count], mask[row, :count] = own[index], True
        return Tokens(values, mask)

    forth, back = by_loops(a, kept(b, a))[0], by_loops(kept(a, b), b)[1]
    assert_close(losses(0.5, a, b), similarity_cross_entropy(7 * forth, 7 * back, groups=GROUPS))


def test_dropped_candidates_get_no_gradient_and_pads_are_never_read() -> None:
    tokens = Tokens(torch.eye(4).double()[None].requires_grad_(), torch.ones(1, 4, dtype=torch.bool))
    partner = Tokens(torch.tensor([[[0.0, 0.0, 1.0, 0.0], [math.nan] * 4]]).double(), torch.tensor([[True, False]]))
    values, mask = keep_best_tokens(tokens.values, tokens.mask, partner.values, partner.mask, 0.3)
    assert mask.tolist() == [[True, True]]
    assert values[0].argmax(1).tolist() == [0, 2]  # of the three equal ones the first, in the order of the tokens
    values.sum().backward()
    assert tokens.values.grad is not None
    assert tokens.values.grad[0].any(1).tolist() == [True, False, True, False]
    lone = keep_best_tokens(tokens.values, tokens.mask, partner.values, torch.zeros(1, 2, dtype=torch.bool), 1e-9)
    assert lone[0].shape == (1, 1, 4)
    empty = keep_best_tokens(tokens.values[:0], tokens.mask[:0], partner.values[:0], partner.mask[:0], 0.5)
    assert empty[0].shape == (0, 0, 4)


def test_similarity_in_use_reads_all_tokens() -> None:
    a, b = side(level(3, 1, 4, 2)), side(level(2, 5, 1, 3, seed=1))
    few, every = LateInteractionObjective(keep=0.25).double(), LateInteractionObjective().double()
    assert_close(few.similarity(a, b), every.similarity(a, b), rtol=0, atol=0)


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5, math.nan])
def test_keep_outside_0_to_1_is_an_error(keep: float) -> None:
    with pytest.raises(UserError, match="keep: expected a fraction above 0 and at most 1"):
        LateInteractionObjective(keep=keep)
