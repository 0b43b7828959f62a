"""Token reducer: reference values, padding, number of parameters, and its place in the heads."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads import Codebook, CodebookConfig, HeadSet, TokenReducer
from mmalign.heads.reducer import GroupedLinear
from mmalign.modality import Encoder
from mmalign.types import Embedding, Features, Tokens

DIM, KEPT = 6, 3


def tokens(*lengths: int, width: int = DIM, filler: float = math.nan, longest: int = 0) -> Tokens:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(len(lengths), 9, width, generator=draw, dtype=torch.float64)
    longest = longest or max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Tokens(values[:, :longest].masked_fill(~mask[:, :, None], filler), mask)


def reducer(groups: int = 2, *, unit: bool = False, kept: int = KEPT) -> TokenReducer:
    torch.manual_seed(0)
    made = TokenReducer(DIM, kept, groups, unit=unit).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def test_reduced_tokens_equal_the_equation() -> None:
    made, given = reducer(unit=True), tokens(4, 9, filler=0.0)
    for row, length in enumerate((4, 9)):
        x = given.values[row, :length]
        normed = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        normed = normed * made.norm.weight + made.norm.bias
        logits = (normed @ made.mix.dense().T + made.mix.bias) @ made.attend.weight.T + made.attend.bias
        attention = logits.exp() / logits.exp().sum(0)
        reduced = attention.T @ (x @ made.project.dense().T + made.project.bias)
        assert_close(made(given).values[row], reduced / reduced.norm(dim=1, keepdim=True))
        assert_close(made(given).origin[row, :, :length], attention.T)
        assert not made(given).origin[row, :, length:].any()


def test_equal_logits_give_the_mean_of_the_real_tokens() -> None:
    made, given = reducer(), tokens(2, 5)
    with torch.no_grad():
        made.attend.weight.zero_()
        made.attend.bias.fill_(3.0)
    for row, length in enumerate((2, 5)):
        mean = made.project(given.values[row, :length]).mean(0)
        assert_close(made(given).values[row], mean.expand(KEPT, DIM))


def test_logits_that_choose_one_token_each_give_a_permutation() -> None:
    made = TokenReducer(4, 4, 1).double()
    given = Tokens(torch.eye(4, dtype=torch.float64)[None], torch.ones(1, 4, dtype=torch.bool))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        made.mix.weight.copy_(torch.eye(4))
        made.attend.weight.copy_(1e3 * torch.eye(4)[order])
    assert_close(made(given).values[0], torch.eye(4, dtype=torch.float64)[order])


@pytest.mark.parametrize("filler", [math.nan, math.inf, 5.0])
def test_padding_is_never_read(filler: float) -> None:
    found = []
    for given in (tokens(3, 0, 5, filler=0.0), tokens(3, 0, 5, filler=filler, longest=9)):
        made, values = reducer(unit=True), given.values.requires_grad_()
        reduced = made(Tokens(values, given.mask))
        (reduced.values * torch.arange(DIM)).sum().backward()
        assert values.grad is not None
        assert values.grad[~given.mask].abs().sum() == 0
        found.append([reduced.values, values.grad[:, :5], *(parameter.grad for parameter in made.parameters())])
    assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_a_sample_without_tokens_has_none_afterwards() -> None:
    reduced = reducer(unit=True)(tokens(3, 0))
    assert reduced.mask.tolist() == [[True] * KEPT, [False] * KEPT]
    assert not reduced.values[1].any()
    assert not reduced.origin[1].any()
    for shape in ((0, 3), (2, 0)):
        empty = reducer(unit=True)(Tokens(torch.zeros(*shape, DIM).double(), torch.ones(shape, dtype=torch.bool)))
        assert empty.values.shape == (shape[0], KEPT, DIM)
        empty.values.sum().backward()


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_a_grouped_map_is_a_block_diagonal_dense_map(groups: int) -> None:
    made = GroupedLinear(DIM, groups)
    values = torch.randn(2, 5, DIM)
    assert_close(made(values), F.linear(values, made.dense(), made.bias))
    block = torch.kron(torch.eye(groups), torch.ones(DIM // groups, DIM // groups))
    assert (made.dense()[block == 0] == 0).all()
    assert (made.dense()[block == 1] != 0).all()
    count = sum(parameter.numel() for parameter in TokenReducer(DIM, KEPT, groups).parameters())
    assert count == 2 * DIM**2 // groups + 2 * DIM + DIM * KEPT + KEPT + 2 * DIM


def test_precision() -> None:
    made, given = TokenReducer(8, 2), Tokens(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        low = made(given).values
    assert low.dtype == torch.float32
    assert_close(low, made(given).values, rtol=0.05, atol=0.05)
    assert made.double()(given.to(torch.float64)).values.dtype == torch.float64


class Sets(Encoder):
    def __init__(self) -> None:
        super().__init__(DIM, token_width=DIM, part_width=DIM)


def test_heads_reduce_what_objectives_compare_and_nothing_else() -> None:
    made = HeadSet(Sets(), 4, {"tokens", "parts", "codes", "vector"}, reduce=KEPT).double()
    book = Codebook(4, CodebookConfig(codes=5, temperature=1.0)).double()
    given = Features(torch.randn(2, DIM).double(), tokens(4, 9), tokens(2, 4))
    found = made(given, "", book)
    assert made.token_reducer is not None
    assert made.query_reducer is not None
    assert found.tokens.values.shape == (2, KEPT, 4)
    assert found.parts.values.shape == (2, 4, 4)
    assert_close(found.tokens.values, made.token_reducer(made.tokens(given.tokens)).values)
    assert_close(found.codes, book(made.query_reducer(made.queries(given.tokens)))[0])
    joined = Embedding.cat([found, made(Features(given.vector, tokens(3, 1), tokens(1, 1)), "", book)])
    assert joined.tokens.origin.shape == (4, KEPT, 9)
    assert_close(joined.tokens.origin.sum(2), torch.ones(4, KEPT).double())
    assert joined[torch.tensor([1])].tokens.origin.shape == (1, KEPT, 9)


def test_without_the_option_nothing_is_built() -> None:
    made = HeadSet(Sets(), 4, {"tokens", "codes"})
    assert not any("reducer" in name for name in made.state_dict())


@pytest.mark.parametrize(("needs", "reduce"), [({"vector"}, 4), ({"parts"}, 4), ({"tokens"}, -1)])
def test_a_reducer_without_tokens_to_reduce_is_refused(needs: set[str], reduce: int) -> None:
    with pytest.raises(UserError, match="reduce: expected a number of tokens"):
        HeadSet(Sets(), 4, needs, reduce=reduce)
