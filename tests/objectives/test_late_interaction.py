import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.objectives.functional.similarity_cross_entropy import similarity_cross_entropy
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


def test_a_sample_without_tokens_scores_nothing_and_learns_nothing() -> None:
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
