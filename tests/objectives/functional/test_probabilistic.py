import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmalign.errors import UserError
from mmalign.objectives.functional import (
    closed_form_sampled_distance,
    inclusion_loss,
    inclusion_score,
    information_bottleneck,
    pcmepp_loss,
    prolip_loss,
    siglip_loss,
)
from tests.gradients import gradcheck
from tests.reference import probabilistic as reference

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def gaussians(rows: int, dim: int = 5, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)
    log_variance = torch.randn(rows, dim, generator=generator, dtype=torch.float64) - 2
    return mean.to(dtype), log_variance.to(dtype)


def both(n: int, m: int, dim: int = 5, *, dtype: torch.dtype = torch.float64) -> Four:
    return (*gaussians(n, dim, dtype=dtype), *gaussians(m, dim, dtype=dtype, seed=1))


def learnt(given: Four) -> Four:
    mean_a, log_variance_a, mean_b, log_variance_b = (t.clone().requires_grad_() for t in given)
    return mean_a, log_variance_a, mean_b, log_variance_b


def arrays(given: Four) -> list[Any]:
    return [t.numpy() for t in given]


TARGETS = {
    "pairs": None,
    "several": ([7, 7, -1, 3, 3], [7, 3, -1, -1, 7]),
    "not square": ([1, 2, 3], [3, 3, 1, 1, 2]),
    "some without positive": ([0, 0, 1, 8], [1, 0, 9, 9, 0, 1]),
    "none": ([0, 1], [2, 3, 4]),
    "one": ([4], [4]),
}


def in_groups(groups: tuple[list[int], list[int]] | None) -> tuple[int, int, dict[str, Tensor], list[list[float]]]:
    if groups is None:
        return 5, 5, {}, torch.eye(5).tolist()
    a, b = map(torch.tensor, groups)
    return len(a), len(b), {"groups_a": a, "groups_b": b}, (a[:, None] == b).double().tolist()


def test_the_distance_is_the_papers_and_that_of_draws() -> None:
    given = both(3, 4, 8)
    got = closed_form_sampled_distance(*given)
    torch.testing.assert_close(got, torch.tensor(reference.distances(*arrays(given)), dtype=torch.float64))

    generator = torch.Generator().manual_seed(5)
    draws = [
        mean + (log_variance / 2).exp() * torch.randn(200_000, *mean.shape, generator=generator, dtype=mean.dtype)
        for mean, log_variance in (given[:2], given[2:])
    ]
    sampled = (draws[0][:, 1] - draws[1][:, 2]).square().sum(1)
    error = float(sampled.std()) / math.sqrt(len(sampled))
    assert abs(float(got[1, 2]) - float(sampled.mean())) < 4 * error
    # Var = 2 sum (v1 + v2)^2 + 4 sum (mu1 - mu2)^2 (v1 + v2): the draws are those of the Gaussians meant
    v, delta = given[1][1].exp() + given[3][2].exp(), given[0][1] - given[2][2]
    variance = 2 * v.square().sum() + 4 * (delta.square() * v).sum()
    torch.testing.assert_close(sampled.var(), variance, rtol=0.03, atol=0.0)


def test_the_distance_at_the_ends() -> None:
    mean, log_variance = gaussians(4)
    own = closed_form_sampled_distance(mean, log_variance, mean, log_variance)
    torch.testing.assert_close(own.diagonal(), 2 * log_variance.exp().sum(1))
    torch.testing.assert_close(own, own.T)
    sure = torch.full_like(mean, -math.inf)
    torch.testing.assert_close(
        closed_form_sampled_distance(mean, sure, mean, sure), 2 - 2 * mean @ mean.T, rtol=0.0, atol=1e-7
    )
    # Rounding must not make a squared distance negative.
    narrow = gaussians(40, 100)[0].float() * 30
    assert float(closed_form_sampled_distance(narrow, narrow * 0 - 20, narrow, narrow * 0 - 20).min()) > 0
    one = closed_form_sampled_distance(mean[:1], log_variance[:1], mean[1:2], log_variance[1:2])
    torch.testing.assert_close(one, own[:1, 1:2])


def test_appending_one_coordinate_gives_a_euclidean_distance() -> None:
    mean_a, log_variance_a, mean_b, log_variance_b = both(4, 30)
    lifted = torch.cat([mean_b, log_variance_b.exp().sum(1, keepdim=True).sqrt()], 1)
    euclidean = torch.cdist(torch.cat([mean_a, torch.zeros(4, 1)], 1), lifted)
    ours = closed_form_sampled_distance(mean_a, log_variance_a, mean_b, log_variance_b)
    assert torch.equal(ours.argsort(1), euclidean.argsort(1))


@pytest.mark.parametrize("groups", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("pseudo_weight", [0.0, 0.1, 3.0])
@pytest.mark.parametrize(("scale", "bias"), [(5.0, 5.0), (0.3, -1.0), (1000.0, 5.0)])
def test_pcmepp_is_the_papers(
    groups: tuple[list[int], list[int]] | None, pseudo_weight: float, scale: float, bias: float
) -> None:
    n, m, named, targets = in_groups(groups)
    given = both(n, m)
    got = pcmepp_loss(*given, scale=scale, bias=bias, pseudo_weight=pseudo_weight, **named)
    wanted = reference.pcmepp_loss(reference.distances(*arrays(given)), targets, scale, bias, pseudo_weight)
    torch.testing.assert_close(float(got), wanted, rtol=1e-11, atol=1e-12)
    soft = torch.tensor(targets, dtype=torch.float64)
    torch.testing.assert_close(
        pcmepp_loss(*given, scale=scale, bias=bias, pseudo_weight=pseudo_weight, targets=soft), got
    )
    by_row = pcmepp_loss(*given, scale=scale, bias=bias, pseudo_weight=pseudo_weight, reduction="rows", **named)
    torch.testing.assert_close(by_row, got * m)


def test_mixed_samples_have_soft_targets_in_odd_batches_too() -> None:
    given = both(5, 5)
    share = torch.tensor([0.7, 0.2, 1.0, 0.9, 0.4], dtype=torch.float64)
    targets = torch.diag(share) + torch.diag(1 - share).flip(1)  # sample i is mixed with sample n - 1 - i
    targets[2, 2] = 1.0
    torch.testing.assert_close(targets.sum(1), torch.ones(5, dtype=torch.float64))
    got = pcmepp_loss(*given, scale=5.0, bias=5.0, targets=targets, pseudo_weight=0.5)
    wanted = reference.pcmepp_loss(reference.distances(*arrays(given)), targets.tolist(), 5.0, 5.0, 0.5)
    torch.testing.assert_close(float(got), wanted)


@pytest.mark.parametrize("soft", [False, True])
def test_ties_with_a_positive_are_pseudo_positives_at_any_index(soft: bool) -> None:
    mean = torch.zeros(3, 2)  # identical: all pairs tie, so all are pseudo-positives, with logit bias - 6 scale e^-20
    sure = torch.full((3, 2), -20.0)
    targets = torch.eye(3) if soft else None
    got = pcmepp_loss(mean, sure, mean, sure, scale=1.0, bias=2.0, pseudo_weight=1.0, targets=targets)
    no, yes = math.log1p(math.exp(2)), math.log1p(math.exp(-2))
    torch.testing.assert_close(float(got), 2 * (6 * no + 3 * yes) / 9 + 2 * yes, rtol=1e-5, atol=1e-5)


def test_no_pseudo_positives_where_the_positive_is_best_or_there_is_none() -> None:
    eye, sure = torch.eye(4), torch.full((4, 4), -20.0)
    plain = pcmepp_loss(eye, sure, eye, sure, scale=3.0, bias=2.0, pseudo_weight=0.0)
    torch.testing.assert_close(pcmepp_loss(eye, sure, eye, sure, scale=3.0, bias=2.0, pseudo_weight=0.5), 1.5 * plain)
    named = {"groups_a": torch.arange(4), "groups_b": torch.arange(4) + 10}
    plain = pcmepp_loss(eye, sure, eye, sure, scale=3.0, bias=2.0, pseudo_weight=0.0, **named)
    got = pcmepp_loss(eye, sure, eye, sure, scale=3.0, bias=2.0, pseudo_weight=0.5, **named)
    torch.testing.assert_close(got, 1.5 * plain)


@pytest.mark.parametrize("groups", [None, "several", "not square", "some without positive"])
def test_gradients_by_finite_differences(groups: str | None) -> None:
    n, m, named, _ = in_groups(TARGETS[groups] if groups else None)
    given = learnt(both(n, m, 3))
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    pcmepp: Callable[..., Tensor] = lambda *x: pcmepp_loss(*x[:4], scale=x[4], bias=x[5], **named)  # noqa: E731
    prolip: Callable[..., Tensor] = lambda *x: prolip_loss(*x[:4], scale=x[4], bias=x[5], **named)  # noqa: E731
    assert gradcheck(closed_form_sampled_distance, given)
    assert torch.autograd.gradgradcheck(closed_form_sampled_distance, given)
    assert gradcheck(pcmepp, (*given, scale, bias))
    assert gradcheck(prolip, (*given, scale, bias))
    if n == m:
        assert gradcheck(inclusion_score, given)
    assert gradcheck(information_bottleneck, given[:2])


@pytest.mark.parametrize("groups", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(("scale", "bias"), [(1 / 0.07, -10.0), (100.0, 3.0)])
def test_prolip_is_the_papers(groups: tuple[list[int], list[int]] | None, scale: float, bias: float) -> None:
    n, m, named, positive = in_groups(groups)
    given = both(n, m)
    got = prolip_loss(*given, scale=scale, bias=bias, **named)
    wanted = reference.prolip_loss(*arrays(given), scale, bias, positive)
    torch.testing.assert_close(float(got), wanted, rtol=1e-11, atol=1e-12)


def test_prolip_reduces_to_siglip_and_agrees_with_the_distance() -> None:
    mean_a, log_variance_a, mean_b, log_variance_b = both(6, 6)
    sure = torch.full_like(mean_a, -20.0)
    torch.testing.assert_close(
        prolip_loss(mean_a, sure, mean_b, sure, scale=9.0, bias=-3.0),
        siglip_loss(mean_a, mean_b, 9.0, -3.0),
        rtol=1e-6,
        atol=1e-6,
    )
    logits = 9 - 4.5 * closed_form_sampled_distance(mean_a, log_variance_a, mean_b, log_variance_b) - 3
    wanted = -F.logsigmoid((2 * torch.eye(6, dtype=torch.float64) - 1) * logits).sum() / 6
    got = prolip_loss(mean_a, log_variance_a, mean_b, log_variance_b, scale=9.0, bias=-3.0)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("mean", "l_a", "l_b"), [(0.0, -2.0, 0.0), (0.7, -3.0, 1.0), (-1.3, 0.5, -0.5), (0.4, 1.0, 1.0)]
)
def test_inclusion_is_the_ratio_of_two_integrals(mean: float, l_a: float, l_b: float) -> None:
    # Coefficients of -2 and -1 on the log-variances, twice the right ones, fail here.
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    got = inclusion_score(one * mean, one * l_a, zero, one * l_b)
    torch.testing.assert_close(float(got), reference.inclusion(mean, l_a, 0.0, l_b), rtol=1e-9, atol=1e-9)


def test_inclusion_is_antisymmetric_and_zero_for_equal_gaussians() -> None:
    given = both(6, 6, 700)
    score = inclusion_score(*given)
    torch.testing.assert_close(inclusion_score(*given[2:], *given[:2]), -score, rtol=1e-13, atol=1e-10)
    assert not inclusion_score(*given[:2], *given[:2]).any()
    mean, log_variance = (t.float() for t in given[:2])
    assert bool((inclusion_score(mean, log_variance - 1, mean, log_variance) > 0).all())  # narrow lies in wide
    # dimensions add up
    halves = inclusion_score(*(t[:, :300] for t in given)) + inclusion_score(*(t[:, 300:] for t in given))
    torch.testing.assert_close(halves, score)
    torch.testing.assert_close(
        inclusion_loss(*given, scale=0.1), -F.logsigmoid(0.1 * score).mean(), rtol=1e-12, atol=1e-12
    )


def test_the_bottleneck_is_the_divergence_from_a_standard_gaussian() -> None:
    # Reading the log-variance as a log-deviation, or halving it, fails here; so does a sum for a mean.
    mean, log_variance = gaussians(4)
    got = information_bottleneck(mean, log_variance)
    torch.testing.assert_close(float(got), reference.divergence(mean.numpy(), log_variance.numpy()))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    ours = torch.distributions.Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(got, torch.distributions.kl_divergence(ours, standard).mean())
    torch.testing.assert_close(information_bottleneck(torch.zeros(3, 2), torch.zeros(3, 2)), torch.tensor(0.0))


@pytest.mark.parametrize("extreme", [-6e4, -20.0, 10.0, 6e4, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_log_variance_is_finite_and_keeps_a_gradient_inwards(dtype: torch.dtype, extreme: float) -> None:
    # No step is skipped and no gradient is cut off: what is far too unsure is pulled back, and the other way round.
    given = learnt(
        tuple(torch.full_like(t, extreme) if k % 2 else t for k, t in enumerate(both(9, 9, 16, dtype=dtype)))
    )
    losses = {
        "pcmepp": pcmepp_loss(*given, scale=5.0, bias=5.0),
        "prolip": prolip_loss(*given, scale=10.0, bias=-10.0),
        "inclusion": inclusion_loss(*given, scale=10.0),
        "bottleneck": information_bottleneck(*given[:2]),
    }
    for name, loss in losses.items():
        grads = torch.autograd.grad(loss, given, allow_unused=True)
        assert loss.dtype == torch.float32
        assert loss.isfinite(), name
        if name != "inclusion" or dtype != torch.float16:  # 1 / exp(-20) is more than the type holds
            assert all(g.isfinite().all() for g in grads if g is not None), name
        if name == "bottleneck":
            assert bool((grads[1] * math.copysign(1, extreme) > 0).all())
        if name == "pcmepp" and extreme > 0:
            assert bool((grads[1] > 0).all())


def test_autocast_changes_nothing() -> None:
    given = both(40, 40, 64, dtype=torch.float32)
    given = (given[0], given[1] - 8, given[2], given[3] - 8)

    def run() -> list[Tensor]:
        inputs = learnt(given)
        loss = pcmepp_loss(*inputs, scale=5.0, bias=5.0) + prolip_loss(*inputs, scale=10.0, bias=-10.0)
        loss = loss + inclusion_loss(*inputs, scale=0.1) + information_bottleneck(*inputs[:2])
        return [loss.detach(), *torch.autograd.grad(loss, inputs)]

    outside = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run()
    for left, right in zip(inside, outside, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


def test_towers_can_be_exchanged_and_rows_permuted() -> None:
    given, order = both(6, 6), torch.tensor([3, 0, 2, 1, 5, 4])
    for loss in (pcmepp_loss, prolip_loss):
        here = loss(*given, scale=5.0, bias=2.0)
        torch.testing.assert_close(loss(*given[2:], *given[:2], scale=5.0, bias=2.0), here)
        torch.testing.assert_close(loss(*(t[order] for t in given), scale=5.0, bias=2.0), here)


def test_a_batch_of_one_and_an_empty_side_run_backward() -> None:
    given = learnt(both(1, 1))
    loss = pcmepp_loss(*given, scale=5.0, bias=5.0)
    distance = closed_form_sampled_distance(*given)[0, 0]
    torch.testing.assert_close(loss, 2.2 * F.softplus(5 * distance - 5))
    assert all(g.any() for g in torch.autograd.grad(loss, given))
    for n, m in [(0, 0), (0, 3), (3, 0)]:
        given = learnt(both(n, m))
        named = {"groups_a": torch.zeros(n, dtype=torch.long), "groups_b": torch.zeros(m, dtype=torch.long)}
        for loss in (
            pcmepp_loss(*given, scale=5.0, bias=5.0, **named),
            prolip_loss(*given, scale=5.0, bias=5.0, **named),
        ):
            assert float(loss.detach()) == 0.0
            assert not any(g.any() for g in torch.autograd.grad(loss, given))
    given = learnt(both(0, 0))
    (inclusion_loss(*given, scale=1.0) + information_bottleneck(*given[:2])).backward()


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return out


def test_no_vector_per_pair_is_allocated() -> None:
    given = learnt(both(32, 32, 32))
    with Largest() as watch:
        pcmepp_loss(*given, scale=5.0, bias=5.0).backward()
    assert watch.size <= 32 * 32  # pairs, or rows of numbers; pairs of vectors would be 32 times as many


def test_no_gradient_goes_through_the_choice_of_labels() -> None:
    given, targets = both(4, 4), torch.eye(4, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    loss = pcmepp_loss(*given, scale=scale, bias=5.0, targets=targets, pseudo_weight=2.0)
    assert torch.autograd.grad(loss, (scale, targets), allow_unused=True)[1] is None


def test_invalid_arguments_are_errors() -> None:
    given = both(3, 4)
    with pytest.raises(UserError, match="one shape"):
        closed_form_sampled_distance(given[0], given[3], given[2], given[3])
    with pytest.raises(UserError, match="one width"):
        closed_form_sampled_distance(*given[:2], *gaussians(4, 6))
    with pytest.raises(UserError, match="3 rows and 4 columns"):
        pcmepp_loss(*given, scale=1.0, bias=0.0)
    with pytest.raises(UserError, match="together"):
        pcmepp_loss(*given, scale=1.0, bias=0.0, groups_a=torch.arange(3))
    with pytest.raises(UserError, match="one group per row"):
        pcmepp_loss(*given, scale=1.0, bias=0.0, groups_a=torch.arange(4), groups_b=torch.arange(4))
    with pytest.raises(UserError, match="and no groups"):
        pcmepp_loss(*given, scale=1.0, bias=0.0, targets=torch.eye(3))
    with pytest.raises(UserError, match="from 0 to 1"):
        pcmepp_loss(*given, scale=1.0, bias=0.0, targets=torch.full((3, 4), 1.5))
    with pytest.raises(UserError, match="scale of at least zero"):
        pcmepp_loss(*both(3, 3), scale=-1.0, bias=0.0)
    with pytest.raises(UserError, match="pairs or rows"):
        pcmepp_loss(*both(3, 3), scale=1.0, bias=0.0, reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="as many rows"):
        inclusion_score(*given)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("loss", [pcmepp_loss, prolip_loss])
def test_nan_is_refused(loss: Callable[..., Tensor], place: int) -> None:
    given = both(3, 3)
    given[place][1, 1] = math.nan
    with pytest.raises(UserError, match="NaN or infinity"):
        loss(*given, scale=1.0, bias=0.0)
