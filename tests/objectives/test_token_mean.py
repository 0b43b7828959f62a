import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.objectives.contrastive import ClipObjective
from mmalign.objectives.token_mean import TokenMeanObjective
from mmalign.types import Embedding, Tokens

GROUPS = torch.tensor([4, 0, 4, 1])


def side(*lengths: int, seed: int = 0, dim: int = 5) -> Embedding:
    """Unit tokens, NaN in the pads."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    draw = torch.Generator().manual_seed(seed)
    values = F.normalize(torch.randn(*mask.shape, dim, generator=draw, dtype=torch.float64), dim=2)
    tokens = Tokens(values.masked_fill(~mask[:, :, None], math.nan).requires_grad_(), mask)
    return Embedding(torch.zeros(len(lengths), dim, dtype=torch.float64), tokens=tokens)


def test_score_is_the_mean_similarity_of_all_pairs_of_tokens() -> None:
    a, b = side(3, 1, 4), side(2, 5, 1, 3, seed=1)
    scores = TokenMeanObjective().similarity(a, b)
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        dots = a.tokens.values[i, a.tokens.mask[i]] @ b.tokens.values[j, b.tokens.mask[j]].T
        assert_close(scores[i, j], dots.mean(), rtol=1e-14, atol=1e-15)
    assert_close(TokenMeanObjective().similarity_pairwise(a, b[:3]), scores[:, :3].diagonal())


def test_one_token_each_is_clip_in_value_and_gradient() -> None:
    a, b = side(1, 1, 1, 1), side(1, 1, 1, 1, seed=1)
    loss = TokenMeanObjective(7.0).double()(a, b, GROUPS).loss
    loss.backward()
    vectors = [one.tokens.values.detach()[:, 0].requires_grad_() for one in (a, b)]
    expected = ClipObjective(7.0).double()(*map(Embedding, vectors), GROUPS).loss
    expected.backward()
    assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for one, vector in zip((a, b), vectors, strict=True):
        assert_close(one.tokens.values.grad[:, 0], vector.grad, rtol=1e-10, atol=1e-10)


def test_equal_tokens_are_one_token_and_an_orthogonal_one_halves_the_score() -> None:
    token, other = torch.eye(4)[0], F.normalize(torch.tensor([3.0, 1.0, 0.0, 0.0]), dim=0)
    lone = Embedding(torch.zeros(1, 4), tokens=Tokens(token[None, None], torch.ones(1, 1).bool()))
    equal = Embedding(torch.zeros(1, 4), tokens=Tokens(token.expand(1, 3, 4), torch.ones(1, 3).bool()))
    both = Embedding(
        torch.zeros(1, 4), tokens=Tokens(torch.stack([token, torch.eye(4)[3]])[None], torch.ones(1, 2).bool())
    )
    query = Embedding(torch.zeros(1, 4), tokens=Tokens(other[None, None], torch.ones(1, 1).bool()))
    objective = TokenMeanObjective()
    assert_close(objective.similarity(equal, query), objective.similarity(lone, query))
    assert_close(objective.similarity(both, query), objective.similarity(lone, query) / 2)


def test_correspondence_is_the_positive_similarities() -> None:
    a, b = side(3), side(2, seed=1)
    weights = TokenMeanObjective().correspondence(a, b)
    dots = (a.tokens.values[0] @ b.tokens.values[0].T).clamp(min=0)
    assert_close(weights, dots / dots.sum())
    assert float(weights.sum().detach()) == pytest.approx(1)


def test_each_tower_can_have_another_level() -> None:
    objective = TokenMeanObjective(level_b="parts")
    assert (objective.tower_needs("a"), objective.tower_needs("b")) == ({"tokens"}, {"parts"})
