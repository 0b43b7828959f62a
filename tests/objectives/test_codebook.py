import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads import Codebook, CodebookConfig
from mmalign.objectives.codebook import FdtObjective
from mmalign.objectives.functional import clip_loss, code_statistics
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.objectives.pairs.pair_sum import PairSum
from mmalign.types import Batch, Embedding, Tokens

ROWS, DIM, CODES = 6, 5, 9
GROUPS = torch.tensor([1, 1, 2, 3, 3, 3])


@pytest.fixture
def book() -> Codebook:
    return Codebook(DIM, CodebookConfig(codes=CODES, temperature=0.4)).double()


def side(book: Codebook, modality: str = "", seed: int = 0) -> Embedding:
    """A vector, and what the codebook makes of some tokens."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(ROWS, 4, DIM, generator=draw, dtype=torch.float64)
    codes, grounded = book(Tokens(values, torch.ones(ROWS, 4, dtype=torch.bool)))
    vector = F.normalize(torch.randn(ROWS, DIM, generator=draw, dtype=torch.float64), dim=1)
    return Embedding(vector.requires_grad_(), codes=codes, grounded=grounded, tower=modality)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_equals_clip_of_the_decoded_vectors(book: Codebook, groups: Tensor | None) -> None:
    a, b = side(book, seed=1), side(book, seed=2)
    assert a.codes is not None
    assert b.codes is not None
    mixed = [F.normalize(one.codes @ book.codes, dim=1) for one in (a, b)]
    wanted = clip_loss(*mixed, 7.0, groups_a=groups, groups_b=groups)
    assert_close(FdtObjective(initial_scale=7.0).double()(a, b, groups).loss, wanted)


def test_scale_and_codes_learn_and_vectors_do_not(book: Codebook) -> None:
    objective, a, b = FdtObjective().double(), side(book, seed=1), side(book, seed=2)
    objective(a, b).loss.backward()
    assert objective.clip.log_scale.grad.abs().item() > 0
    assert a.codes is not None
    assert b.codes is not None
    used = (torch.cat([a.codes, b.codes]) > 0).any(0)
    assert (book.codes.grad.any(1) == used).all()
    assert used.sum() > CODES / 2
    assert a.vector.grad is None
    assert b.vector.grad is None


def test_the_scale_is_capped_and_may_be_fixed() -> None:
    objective = FdtObjective(initial_scale=20.0, max_scale=30.0)
    with torch.no_grad():
        objective.clip.log_scale.fill_(math.log(40.0))
    assert_close(objective.scale, torch.tensor([40.0]))
    objective.after_step()
    assert_close(objective.scale, torch.tensor([30.0]))
    assert not any(parameter.requires_grad for parameter in FdtObjective(learn_scale=False).parameters())
    with pytest.raises(UserError, match="max_scale"):
        FdtObjective(initial_scale=200.0)


def test_scores_by_mixtures_and_by_codes(book: Codebook) -> None:
    objective, a, b = FdtObjective().double(), side(book, seed=1), side(book, seed=2)[:4]
    assert a.codes is not None
    assert b.codes is not None
    mixed = (a.codes @ book.codes)[:, None], (b.codes @ book.codes)[None]
    assert_close(objective.similarity(a, b), torch.cosine_similarity(*mixed, dim=2))
    assert_close(objective.similarity(a, b, "codes"), torch.cosine_similarity(a.codes[:, None], b.codes[None], dim=2))


def test_terms_report_the_usage_of_codes() -> None:
    def of(*rows: list[float]) -> Embedding:
        codes = torch.tensor(rows)
        return Embedding(codes, codes=codes, grounded=F.normalize(codes, dim=1))

    # Side a: three of four codes in use, one or two by a sample; side b: one code for all.
    a, b = of([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]), of([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0])
    terms = FdtObjective()(a, b).terms
    assert float(terms["live"]) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert float(terms["support"]) == pytest.approx((1.5 + 1.0) / 2)
    entropy = -0.5 * math.log(0.5) - 2 * 0.25 * math.log(0.25)
    assert float(terms["perplexity"]) == pytest.approx((math.exp(entropy) + 1.0) / 2)
    assert float(terms["scale"]) == pytest.approx(1 / 0.07)
    assert code_statistics(a.codes).live == 0.75
    # What is left of a code by a softmax, a ten-thousandth of an even share, is no use of it.
    soft = of([1 - 3e-5, 1e-5, 1e-5, 1e-5])
    assert float(FdtObjective()(soft, soft).terms["live"]) == 0.25


def test_it_can_be_a_second_term_beside_clip(book: Codebook) -> None:
    pairs = [PairConfig("x", "y", "clip", weight=2.0), PairConfig("x", "y", "fdt", weight=0.5, score_weight=3.0)]
    both = PairSum(pairs).double()
    assert both.needs_of("x") == both.needs_of("y") == {"vector", "codes"}
    sides = {name: side(book, name, seed) for seed, name in enumerate("xy")}
    places = torch.arange(ROWS)
    output = both(sides, Batch({}, {"x": places, "y": places}, places, GROUPS))
    named = {"groups_a": GROUPS, "groups_b": GROUPS}
    vectors = clip_loss(sides["x"].vector, sides["y"].vector, 1 / 0.07, **named)
    grounded = clip_loss(sides["x"].grounded, sides["y"].grounded, 1 / 0.07, **named)
    assert_close(output.loss, 2 * vectors + 0.5 * grounded)
    assert_close(output.terms["x_y/loss"], vectors.detach())
    assert_close(output.terms["x_y_fdt/loss"], grounded.detach())
    scores = sides["x"].vector @ sides["y"].vector.T + 3 * sides["x"].grounded @ sides["y"].grounded.T
    assert_close(both.similarity(sides["x"], sides["y"]), scores)


def test_embeddings_without_codes_are_named() -> None:
    plain = Embedding(torch.eye(3), tower="sound")
    half = Embedding(torch.eye(3), codes=torch.eye(3))
    with pytest.raises(UserError, match="sound have no codes"):
        FdtObjective()(plain, plain)
    with pytest.raises(UserError, match="this tower have no grounded vector"):
        FdtObjective()(half, half)
    with pytest.raises(UserError, match="no codes"):
        FdtObjective().similarity(plain, plain, "codes")
