import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from mmalign.errors import UserError
from mmalign.heads.gaussian import POOLS, GaussianConfig, GaussianHead, Gpo, _sizes, bag_log_variance
from mmalign.heads.headset import HeadSet
from mmalign.modality import Encoder
from mmalign.objectives.probabilistic import PcmeppObjective, ProlipObjective
from mmalign.types import Embedding, Features, Tokens
from tests.gradients import gradcheck

WIDTH, DIM = 12, 6
EVERY = pytest.mark.parametrize("pool", sorted(POOLS))


def tokens(
    *lengths: int, pad: int = 0, width: int = WIDTH, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tokens:
    mask = torch.arange(max(lengths) + pad) < torch.tensor(lengths)[:, None]
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(*mask.shape, width, generator=draw, dtype=torch.float64).to(dtype)
    return Tokens(values.masked_fill(~mask[:, :, None], math.nan), mask)


def head(pool: str, dim: int = DIM, initial: float | None = None) -> GaussianHead:
    torch.manual_seed(1)
    made = GaussianHead(WIDTH, dim, GaussianConfig(pool=pool, initial=initial)).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.parameters():  # away from the zeros and ones that norms and biases begin with
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


@EVERY
def test_padding_order_and_the_rest_of_the_batch_change_nothing(pool: str) -> None:
    lengths, made = [5, 1, 3, 0], head(pool)
    given = tokens(*lengths)
    whole = made(given)
    assert whole.isfinite().all()
    for place, length in enumerate(lengths):
        alone = Tokens(given.values[place : place + 1, :length], given.mask[place : place + 1, :length])
        assert_close(made(alone)[0], whole[place])
        order = torch.randperm(length)
        assert_close(made(Tokens(alone.values[:, order], alone.mask))[0], whole[place])
    longer = Tokens(F.pad(given.values, (0, 0, 2, 3), value=math.inf), F.pad(given.mask, (2, 3)))
    assert_close(made(longer), whole)


@EVERY
def test_gradients_reach_every_weight_and_no_pad(pool: str) -> None:
    made, given = head(pool), tokens(5, 1, 3, 0)
    values = given.values.requires_grad_()
    (made(Tokens(values, given.mask)) * torch.randn(4, DIM)).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert values.grad is not None
    assert values.grad[given.mask].abs().sum(1).gt(0).all()
    assert values.grad[~given.mask].abs().sum() == 0


@EVERY
def test_gradients_by_finite_differences(pool: str) -> None:
    made, given = head(pool), tokens(4, 1, 0)
    values = given.values.nan_to_num(3.0).requires_grad_()
    assert gradcheck(lambda v: made(Tokens(v, given.mask)), values)


@EVERY
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)], ids=str)
def test_no_sample_and_no_token_still_have_a_graph_to_every_weight(pool: str, shape: tuple[int, int]) -> None:
    made = head(pool, initial=-2.0)
    nothing = made(Tokens(torch.zeros(*shape, WIDTH, dtype=torch.float64), torch.ones(shape, dtype=torch.bool)))
    assert nothing.shape == (shape[0], DIM)
    assert_close(nothing, made.bias.expand(shape[0], -1))
    nothing.sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


@EVERY
def test_a_sample_without_tokens_has_the_initial_value(pool: str) -> None:
    made = GaussianHead(WIDTH, DIM, GaussianConfig(pool=pool, initial=-3.5))  # type: ignore[arg-type]
    found = made(tokens(4, 0, 2, dtype=torch.float32))
    assert_close(found[1], torch.full((DIM,), -3.5), rtol=0, atol=0)
    assert (found[[0, 2]] != -3.5).any(1).all()


@EVERY
@pytest.mark.parametrize("dim", [64, 512])
def test_fresh_log_variances_let_logits_start_near_zero(pool: str, dim: int) -> None:
    """At a log-variance of 0 and 512 dimensions every logit would be near -5,000."""
    made = GaussianHead(96, dim, GaussianConfig(pool=pool))  # type: ignore[arg-type]
    found = made(tokens(*torch.randint(0, 30, (32,)).tolist(), width=96, dtype=torch.float32)).detach()
    assert float((found + math.log(2 * dim)).abs().max()) < 0.5
    side = Embedding(F.normalize(torch.randn(32, dim), dim=1), log_variance=found)
    pcmepp, prolip = PcmeppObjective(), ProlipObjective(initial_bias=0.0)
    logits = (pcmepp.bias + pcmepp.scale * pcmepp.similarity(side, side)).detach()
    assert float(logits.diagonal().abs().max()) < 1.0
    assert float(logits.abs().max()) < 16  # of unlike means: 5 - 5 (2 + 1), give and take
    assert float(prolip.similarity(side, side).diagonal().sub(0.5).abs().max()) < 0.1


@EVERY
def test_output_under_autocast_is_float32(pool: str) -> None:
    made, given = head(pool).float(), tokens(5, 1, 3, 0, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = made(given)
    assert low.dtype == torch.float32
    assert_close(low, made(given), rtol=0.05, atol=0.05)


def test_gpo_weighs_the_sorted_values_of_each_dimension() -> None:
    pool, given = head("gpo").pool, tokens(5, 1, 3, width=DIM)
    assert isinstance(pool, Gpo)
    found = pool(given.values.nan_to_num(7.0), given.mask).detach()
    weights = pool._weights(given.mask.sum(1), 5).detach()
    for row, length in enumerate((5, 1, 3)):
        assert math.fsum(weights[row].tolist()) == pytest.approx(1.0)
        assert not weights[row, length:].any()
        for d in range(DIM):
            values = sorted(given.values[row, :length, d].tolist(), reverse=True)
            wanted = math.fsum(w * v for w, v in zip(weights[row].tolist(), values, strict=False))
            assert float(found[row, d]) == pytest.approx(wanted)


def test_gpo_ranks_are_weighted_by_a_bidirectional_gru() -> None:
    """Against torch's own two-way layer on each number of tokens by itself (Chen et al. 2021, section 4.1)."""
    made, size = Gpo(DIM, size=8).double(), 8
    both = nn.GRU(size, size, batch_first=True, bidirectional=True).double()
    ways = {"": made.up.state_dict(), "_reverse": made.down.state_dict()}
    both.load_state_dict({name + way: value for way, state in ways.items() for name, value in state.items()})
    counts = torch.tensor([4, 1, 7, 4, 2])
    weights = made._weights(counts, 9)
    for row, count in zip(weights, counts.tolist(), strict=True):
        angles = [[place / 10000 ** (2 * k / size) for k in range(size // 2)] for place in range(count)]
        codes = torch.tensor(angles, dtype=torch.float64)
        seen = both(torch.cat([codes.sin(), codes.cos()], 1)[None])[0][0]
        scores = ((seen[:, :size] + seen[:, size:]) / 2) @ made.weight.weight[0] / 0.1
        assert_close(row, F.pad(scores.softmax(0), (0, 9 - count)), rtol=1e-5, atol=1e-6)  # angles are float32


@pytest.mark.parametrize("ask", [True, False])
@pytest.mark.parametrize("length", [4, 9])
def test_counts_are_mapped_to_their_pooling_sizes(ask: bool, length: int) -> None:
    counts = torch.tensor([4, 1, 3, 4, 2, 2])
    sizes, which = _sizes(counts, length, ask=ask)
    assert_close(sizes[which], counts)
    assert len(sizes) <= min(len(counts), length)


def test_gpo_of_one_token_is_the_token_projected() -> None:
    made, given = head("gpo"), tokens(1, 1)
    assert_close(made(given), made.bias + made.before(given.values[:, 0]))


def test_mean_attention_and_token_pools_by_hand() -> None:
    given = tokens(3, 2)
    mean = head("mean")
    real = [values[mask] for values, mask in zip(given.values, given.mask, strict=True)]
    assert_close(mean(given), mean.bias + mean.after(torch.stack([values.mean(0) for values in real])))
    attention = head("attention")
    normed = [attention.pool.norm(values) for values in real]
    pooled = [(values @ attention.pool.query).softmax(0) @ values for values in normed]
    assert_close(attention(given), attention.bias + attention.after(torch.stack(pooled)))
    token = head("token")
    assert_close(token(given), token.bias + token.after(torch.stack([asked(token.pool, values) for values in real])))


def asked(pool: nn.Module, values: Tensor) -> Tensor:
    """The uncertainty token, one head and one key at a time."""
    seen = pool.norm(torch.cat([pool.token[None], values]))
    query, (key, value) = pool.query(seen[:1])[0], pool.key_value(seen).chunk(2, 1)
    size, mixed = WIDTH // pool.heads, []
    for start in range(0, WIDTH, size):
        part = slice(start, start + size)
        scores = torch.stack([(query[part] @ k) / math.sqrt(size) for k in key[:, part]])
        mixed.append(scores.softmax(0) @ value[:, part])
    found = pool.token + pool.out(torch.cat(mixed))
    return found + pool.mlp(pool.norm_mlp(found))


@pytest.mark.parametrize(("width", "heads"), [(16, 8), (12, 4), (6, 2), (5, 1)])
def test_the_uncertainty_token_has_as_many_heads_as_divide_its_width(width: int, heads: int) -> None:
    assert POOLS["token"](width).heads == heads


class Frames(Encoder):
    def __init__(self, width: int, token_width: int | None) -> None:
        super().__init__(width, token_width)


def test_bag_is_the_variance_of_the_projected_tokens() -> None:
    given = tokens(4, 2, 1)
    heads = HeadSet(Frames(WIDTH, WIDTH), DIM, {"vector", "log_variance"}, gaussian=GaussianConfig("bag")).double()
    values = given.values.requires_grad_()
    found = heads(Features(torch.randn(3, WIDTH, dtype=torch.float64), Tokens(values, given.mask)))
    for row, length in enumerate((4, 2)):
        members = heads.vector(given.values[row, :length])
        assert_close(found.log_variance[row], (members.var(0) + math.exp(-18.4)).log())
    assert_close(found.log_variance[2], torch.full((DIM,), -18.4, dtype=torch.float64))
    assert_close(found.log_variance, bag_log_variance(Tokens(heads.vector(given.values.nan_to_num()), given.mask)))
    found.log_variance.sum().backward()
    gradients = {name: parameter.grad for name, parameter in heads.named_parameters()}
    assert list(gradients) == ["vector.layers.weight"]  # it has no weights of its own
    assert gradients["vector.layers.weight"].isfinite().all()
    assert values.grad[~given.mask].abs().sum() == 0


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="gaussian.pool must be one of gpo, attention, token, mean or bag, got 'max'"):
        GaussianHead(4, 4, GaussianConfig(pool="max"))  # type: ignore[arg-type]
    for width in (None, 5):
        with pytest.raises(UserError, match="bag needs tokens as wide as the vector, got (no tokens|5) and 4"):
            HeadSet(Frames(4, width), 3, {"vector", "log_variance"}, gaussian=GaussianConfig("bag"))
