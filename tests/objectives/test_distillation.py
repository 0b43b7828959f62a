import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.distillation import DistillationObjective
from mmalign.objectives.functional import bag_gaussian, gaussian_kl, relation_loss
from mmalign.types import Embedding
from tests.gradients import gradcheck
from tests.reference import distillation as reference

MATCHES = ["cosine", "gaussian", "relations"]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def units(rows: int, dim: int = 6, *, seed: int = 0) -> Tensor:
    return F.normalize(draw(rows, dim, seed=seed), dim=1)


def bags(lengths: list[int], pad: int = 0, dim: int = 3) -> tuple[Tensor, Tensor]:
    """What stands in the padded places is NaN."""
    longest = max(lengths) + pad
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return draw(len(lengths), longest, dim).masked_fill(~mask[:, :, None], math.nan), mask


@pytest.mark.parametrize("floor", [-18.4, -2.0])
@pytest.mark.parametrize("pad", [0, 2])
def test_a_bag_equals_its_definition(floor: float, pad: int) -> None:
    tokens, mask = bags([4, 1, 2, 3], pad)
    mean, log_variance = bag_gaussian(tokens, mask, floor)
    for row in range(4):
        wanted = reference.bag_gaussian(tokens[row][mask[row]].numpy(), floor)
        torch.testing.assert_close(mean[row], torch.tensor(wanted[0], dtype=torch.float64), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            log_variance[row], torch.tensor(wanted[1], dtype=torch.float64), rtol=1e-12, atol=1e-12
        )
    unbiased = tokens[0, :4].var(0) + math.exp(floor)
    torch.testing.assert_close(log_variance[0].exp(), unbiased)


def test_bags_without_spread_have_the_minimum_variance_and_finite_gradients() -> None:
    tokens, mask = bags([1, 0, 3])
    tokens[2, :3] = tokens[2, 0].clone()
    leaf = tokens.clone().requires_grad_()
    mean, log_variance = bag_gaussian(leaf, mask)
    torch.testing.assert_close(log_variance, torch.full((3, 3), -18.4).double())
    torch.testing.assert_close(mean[[0, 1]], torch.stack([tokens[0, 0], torch.zeros(3).double()]))
    (mean.sum() + log_variance.sum()).backward()
    assert leaf.grad.isfinite().all()
    assert not leaf.grad[~mask].any()
    assert bag_gaussian(torch.zeros(2, 0, 3), torch.zeros(2, 0).bool())[1].eq(-18.4).all()


def test_gradients_of_a_bag_by_finite_differences() -> None:
    tokens, mask = bags([4, 2, 3])
    leaf = tokens.nan_to_num(5.0).requires_grad_()
    assert gradcheck(lambda tokens: bag_gaussian(tokens, mask, -3.0), (leaf,))


def test_divergence_equals_its_definition_and_torch() -> None:
    given = draw(5, 4), draw(5, 4, seed=1), draw(5, 4, seed=2), draw(5, 4, seed=3)
    got = gaussian_kl(*given)
    wanted = [reference.gaussian_kl(*(tensor[row].tolist() for tensor in given)) for row in range(5)]
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    p, q = (Independent(Normal(mean, (lv / 2).exp()), 1) for mean, lv in (given[:2], given[2:]))
    torch.testing.assert_close(4 * got, kl_divergence(p, q))
    assert (got > 0).all()
    assert float((got - gaussian_kl(*given[2:], *given[:2])).abs().min()) > 1e-3  # it has a direction


def test_divergence_of_equal_and_nearly_equal_gaussians_is_precise() -> None:
    mean, log_variance = draw(3, 4, dtype=torch.float32), draw(3, 4, seed=1, dtype=torch.float32) - 8
    assert not gaussian_kl(mean, log_variance, mean, log_variance).any()
    near = gaussian_kl(mean, torch.full_like(mean, 0.001), mean, torch.zeros_like(mean))
    wanted = (math.expm1(0.001) - 0.001) / 2  # 2.5e-7: exp(x) - 1 - x in float32 would be off by a tenth
    torch.testing.assert_close(near, torch.full((3,), wanted), rtol=1e-3, atol=0.0)


def test_divergence_of_clamped_log_variances_keeps_a_gradient_inwards() -> None:
    zero = torch.zeros(2, 3)
    far = torch.full((2, 3), 1e4)
    for p, q in [(far, zero), (-far, zero), (zero, far), (zero, -far), (far, -far), (-far, far)]:
        p, q = p.clone().requires_grad_(), q.clone().requires_grad_()
        value = gaussian_kl(zero, p, zero, q)
        torch.testing.assert_close(value, gaussian_kl(zero, p.clamp(-20, 10), zero, q.clamp(-20, 10)))
        value.sum().backward()
        for leaf in (p, q):
            assert leaf.grad.isfinite().all()
            assert leaf.grad.all()
    leaves = [t.requires_grad_() for t in (draw(2, 3), draw(2, 3, seed=1), draw(2, 3, seed=2), draw(2, 3, seed=3))]
    assert gradcheck(gaussian_kl, leaves)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 2.0])
def test_relations_equal_their_definition(temperature: float) -> None:
    a, b = units(6), units(6, 4, seed=1)  # of two widths
    got = relation_loss(a, b, temperature)
    torch.testing.assert_close(
        float(got), reference.relation_loss(a.numpy(), b.numpy(), temperature), rtol=1e-12, atol=1e-12
    )


def test_the_minimum_of_relations_is_the_teachers_entropy_and_a_rotated_space_reaches_it() -> None:
    b = units(7)
    turned = b @ torch.linalg.qr(draw(6, 6, seed=4)).Q
    logits = (b @ b.T / 0.1).masked_fill(torch.eye(7).bool(), -torch.inf)
    least = torch.special.entr(logits.softmax(1)).sum(1).mean()
    torch.testing.assert_close(relation_loss(turned, b), least)
    for seed in range(1, 6):
        assert float(relation_loss(units(7, seed=seed), b)) > float(least)


def test_relations_have_gradients_for_the_student_alone() -> None:
    a, b = units(5).requires_grad_(), units(5, seed=1).requires_grad_()
    assert gradcheck(lambda a: relation_loss(a, b.detach(), 0.5), (a,))
    relation_loss(a, b).backward()
    assert a.grad.any()
    assert b.grad is None


@pytest.mark.parametrize("rows", [0, 1])
def test_relations_of_a_single_row_are_zero_with_a_graph(rows: int) -> None:
    a = units(rows).requires_grad_()
    loss = relation_loss(a, units(rows, seed=1))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not a.grad.any()


def side(rows: int, seed: int, dtype: torch.dtype = torch.float64) -> Embedding:
    vector = units(rows, seed=seed).to(dtype).requires_grad_()
    return Embedding(vector, log_variance=draw(rows, 6, seed=seed + 70).to(dtype).requires_grad_())


def test_the_objective_is_the_mean_of_the_selected_losses() -> None:
    a, b = side(5, 0), side(5, 1)
    wanted = {
        "cosine": 1 - (a.vector * b.vector).sum(1).mean(),
        "gaussian": gaussian_kl(b.vector, b.log_variance, a.vector, a.log_variance).mean(),
        "relations": relation_loss(a.vector, b.vector, 0.3),
    }
    for match, value in wanted.items():
        objective = DistillationObjective(match=match, temperature=0.3)
        got = objective(a, b, torch.zeros(5, dtype=torch.long)).loss
        torch.testing.assert_close(got, value, rtol=1e-12, atol=1e-12)
        slopes = [torch.autograd.grad(loss, a.vector, retain_graph=True)[0] for loss in (got, value)]
        torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(objective.similarity(a, b), a.vector @ b.vector.T)
        assert objective.needs == ({"vector", "log_variance"} if match == "gaussian" else {"vector"})


@pytest.mark.parametrize("match", MATCHES)
def test_no_gradient_reaches_the_teacher(match: str) -> None:
    a, b = side(5, 0), side(5, 1)
    DistillationObjective(match)(a, b).loss.backward()
    assert a.vector.grad.any()
    assert b.vector.grad is None
    assert b.log_variance.grad is None
    assert (a.log_variance.grad is not None) == (match == "gaussian")


@pytest.mark.parametrize("match", MATCHES)
def test_loss_is_minimal_for_the_teacher_itself(match: str) -> None:
    objective, b = DistillationObjective(match), side(6, 1)
    output = objective(b, b)
    least = output.loss if match != "relations" else output.terms["divergence"]
    torch.testing.assert_close(float(least.detach()), 0.0, atol=1e-12, rtol=0.0)
    other = objective(side(6, 0), b)
    gap = (other.loss - output.loss).detach()
    assert float(gap) > 0.1
    if match == "relations":
        torch.testing.assert_close(other.terms["divergence"], gap)


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_small_batches_run_backward(match: str, rows: int) -> None:
    a, b = side(rows, 0, torch.float32), side(rows, 1, torch.float32)
    output = DistillationObjective(match)(a, b)
    output.loss.backward()
    assert output.loss.isfinite()
    assert a.vector.grad.isfinite().all()
    assert all(term.isfinite() and not term.requires_grad for term in output.terms.values())


@pytest.mark.parametrize("match", MATCHES)
def test_half_precision_and_autocast(match: str) -> None:
    results = []
    for inside in (False, True):
        a, b = side(5, 0, torch.bfloat16), side(5, 1, torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            loss = DistillationObjective(match)(a, b).loss
            results.append([loss.detach(), *torch.autograd.grad(loss, a.vector)])
        assert loss.dtype == torch.float32
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


def test_invalid_arguments_are_errors() -> None:
    tokens, mask = bags([2, 3])
    zero, bad = torch.zeros(2, 3), torch.full((2, 3), math.nan)
    narrow = Embedding(torch.eye(2))
    plain = Embedding(torch.eye(2, 3))
    for call, match in [
        (lambda: bag_gaussian(tokens, mask.float()), "booleans"),
        (lambda: bag_gaussian(tokens[0], mask), "batch, length, dim"),
        (lambda: bag_gaussian(tokens, torch.ones(2, 3).bool()), "bag_gaussian expected finite"),
        (lambda: gaussian_kl(zero, zero, zero[:1], zero[:1]), "as many rows"),
        (lambda: gaussian_kl(zero, zero[:, :2], zero, zero), "one shape"),
        (lambda: gaussian_kl(zero, bad, zero, zero), "gaussian_kl expected finite"),
        (lambda: relation_loss(zero, zero[:1]), "as many rows"),
        (lambda: relation_loss(zero, zero, 0.0), "temperature"),
        (lambda: relation_loss(zero, bad), "relation_loss expected finite"),
        (lambda: DistillationObjective("mean"), "match"),
        (lambda: DistillationObjective(temperature=0.0), "temperature"),
        (lambda: DistillationObjective()(narrow, plain), "3; match: relations takes any"),
        (lambda: DistillationObjective()(plain, plain[:1]), "as many rows"),
        (lambda: DistillationObjective()(plain, Embedding(bad)), "distillation expected finite"),
        (lambda: DistillationObjective("gaussian")(plain, plain), "log_variance of both towers"),
    ]:
        with pytest.raises(UserError, match=match):
            call()
    assert DistillationObjective("relations")(narrow, plain).loss.isfinite()
