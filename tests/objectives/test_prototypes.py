import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.objectives.functional import prototype_codes, prototype_loss
from mmalign.objectives.prototypes import PrototypeObjective
from mmalign.types import Embedding
from tests.gradients import gradcheck
from tests.reference import prototypes as reference


def units(rows: int, dim: int = 6, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def cosines(rows: int, prototypes: int, seed: int = 0) -> Tensor:
    return units(rows, seed=seed) @ units(prototypes, seed=seed + 50).T


@pytest.mark.parametrize(("rows", "prototypes"), [(6, 4), (3, 7), (1, 5)])
@pytest.mark.parametrize("epsilon", [0.2, 1.0])
def test_codes_are_those_of_the_plan_written_as_loops(rows: int, prototypes: int, epsilon: float) -> None:
    scores = cosines(rows, prototypes)
    wanted = torch.from_numpy(reference.codes(scores.numpy(), epsilon))
    torch.testing.assert_close(prototype_codes(scores, epsilon), wanted, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 1.0])
def test_samples_are_spread_evenly(epsilon: float) -> None:
    crowd = F.normalize(units(64) + 3 * units(1, seed=9), dim=1) @ units(8, seed=5).T  # all near one direction
    codes = prototype_codes(crowd, epsilon)
    torch.testing.assert_close(codes.sum(1), torch.ones(64).double(), rtol=1e-12, atol=1e-12)
    # sinkhorn's tolerance is an L1 distance of 1e-3, of a mass of 1
    assert float((codes.sum(0) / 64 - 1 / 8).abs().sum()) < 2e-3
    assert len(set(crowd.argmax(1).tolist())) < 8  # without the balance they would not be


def test_codes_by_closed_forms() -> None:
    right = torch.tensor([[1.0, 0.0], [0.9, 0.5], [0.2, 0.1], [0.0, 0.9]])
    torch.testing.assert_close(  # the two that lose least by it go to the second
        prototype_codes(right, 1e-3), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), atol=1e-2, rtol=0
    )
    torch.testing.assert_close(prototype_codes(torch.ones(3, 4)), torch.full((3, 4), 0.25))
    scores = cosines(6, 4)
    torch.testing.assert_close(prototype_codes(scores + 7.0), prototype_codes(scores))
    torch.testing.assert_close(prototype_codes(scores[[3, 1, 0, 2, 5, 4]]), prototype_codes(scores)[[3, 1, 0, 2, 5, 4]])
    assert prototype_codes(torch.zeros(0, 4)).shape == (0, 4)
    assert not prototype_codes(scores.requires_grad_()).requires_grad


@pytest.mark.parametrize("temperature", [0.05, 0.2, 3.0])
def test_loss_equals_the_paper_written_as_loops(temperature: float) -> None:
    a, b = cosines(5, 4), cosines(5, 4, seed=1)
    codes = prototype_codes(a), prototype_codes(b)
    got = prototype_loss(a, b, codes_a=codes[0], codes_b=codes[1], temperature=temperature)
    wanted = reference.prototype_loss(a.numpy(), b.numpy(), codes[0].numpy(), codes[1].numpy(), temperature)
    torch.testing.assert_close(float(got), wanted, rtol=1e-12, atol=1e-12)


def test_the_codes_of_one_tower_supervise_the_other_without_gradient() -> None:
    a, b = cosines(5, 4).requires_grad_(), cosines(5, 4, seed=1).requires_grad_()
    sure = F.one_hot(torch.tensor([0, 1, 2, 3, 0]), 4).double().requires_grad_()
    nothing = torch.zeros(5, 4, dtype=torch.float64)
    # Codes of a alone: all the gradient is b's.
    prototype_loss(a, b, codes_a=sure, codes_b=nothing).backward()
    assert not a.grad.any()
    wanted = F.cross_entropy(b.detach().requires_grad_() / 0.2, sure.argmax(1)) / 2
    torch.testing.assert_close(prototype_loss(a, b, codes_a=sure, codes_b=nothing), wanted)
    assert b.grad.any()
    assert sure.grad is None
    named = {"codes_a": sure, "codes_b": prototype_codes(b)}
    assert gradcheck(lambda a, b: prototype_loss(a, b, **named), (a, b))


def test_the_minimum_is_the_entropy_of_the_codes() -> None:
    codes = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    right = codes.log() * 0.2
    least = torch.special.entr(codes).sum(1).mean()
    named = {"codes_a": codes, "codes_b": codes}
    torch.testing.assert_close(prototype_loss(right, right, **named), least)
    for seed in range(5):
        assert float(prototype_loss(cosines(6, 4, seed), cosines(6, 4, seed + 9), **named)) > float(least)


def test_half_precision_and_autocast() -> None:
    made = PrototypeObjective(prototypes=8, dim=6)
    results = []
    for inside in (False, True):
        a, b = (units(5, seed=seed, dtype=torch.bfloat16).requires_grad_() for seed in (0, 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            loss = made(Embedding(a), Embedding(b)).loss
            results.append([loss.detach(), *torch.autograd.grad(loss, (a, b, made.prototypes))])
        assert loss.dtype == torch.float32
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


def test_the_objective_is_the_loss_of_the_codes_of_its_scores() -> None:
    made = PrototypeObjective(prototypes=4, epsilon=0.1, temperature=0.3, dim=6).double()
    a, b = units(7).requires_grad_(), units(7, seed=1).requires_grad_()
    output = made(Embedding(a), Embedding(b), torch.zeros(7, dtype=torch.long))
    scores = [side.detach() @ made.prototypes.detach().T for side in (a, b)]
    codes = [prototype_codes(side, 0.1).numpy() for side in scores]
    wanted = reference.prototype_loss(scores[0].numpy(), scores[1].numpy(), *codes, 0.3)
    torch.testing.assert_close(float(output.loss.detach()), wanted, rtol=1e-12, atol=1e-12)
    usage = torch.cat(scores).div(0.3).softmax(1).mean(0)
    torch.testing.assert_close(output.terms["perplexity"], torch.special.entr(usage).sum().exp())
    output.loss.backward()
    assert all(leaf.grad.any() for leaf in (a, b, made.prototypes))
    torch.testing.assert_close(made.similarity(Embedding(a), Embedding(b[:3])), a @ b[:3].T)
    assert made.needs == {"vector"}


def test_prototypes_are_unit_at_first_and_after_each_step() -> None:
    made = PrototypeObjective(prototypes=5, dim=3)
    torch.testing.assert_close(made.prototypes.norm(dim=1), torch.ones(5))
    direction = made.prototypes.detach().clone()
    with torch.no_grad():
        made.prototypes.mul_(torch.tensor([[2.0], [0.1], [1.0], [30.0], [0.5]]))
    made.after_step()
    torch.testing.assert_close(made.prototypes.detach(), direction)
    assert made.no_decay == ("prototypes",)
    made.get_parameter(*made.no_decay)


def test_training_assigns_both_towers_to_the_same_prototypes() -> None:
    torch.manual_seed(0)
    made = PrototypeObjective(prototypes=4, dim=6)
    kinds = units(4, seed=3, dtype=torch.float32)[torch.arange(64) % 4]
    seen = [F.normalize(kinds + 0.5 * units(64, seed=seed, dtype=torch.float32), dim=1) for seed in (4, 5)]
    towers = [(torch.eye(6) + 0.8 * torch.randn(6, 6)).requires_grad_() for _ in seen]
    optimizer = torch.optim.Adam([*towers, made.prototypes], lr=0.03)

    def embed() -> list[Embedding]:
        return [Embedding(F.normalize(side @ tower, dim=1)) for side, tower in zip(seen, towers, strict=True)]

    def agree() -> float:
        first, second = ((side.vector @ made.prototypes.T).argmax(1) for side in embed())
        return float((first == second).float().mean())

    before = agree()
    for _ in range(100):
        optimizer.zero_grad()
        output = made(*embed())
        output.loss.backward()
        optimizer.step()
        made.after_step()
    assert before < 0.7
    assert agree() > 0.95
    assert float(output.terms["perplexity"]) > 3.5


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_small_batches_run_backward(rows: int) -> None:
    made = PrototypeObjective(prototypes=4, dim=6)
    a, b = units(rows, dtype=torch.float32).requires_grad_(), units(rows, seed=1, dtype=torch.float32).requires_grad_()
    output = made(Embedding(a), Embedding(b))
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(leaf.grad.isfinite().all() for leaf in (a, b, made.prototypes))
    assert all(term.isfinite() and not term.requires_grad for term in output.terms.values())


def test_invalid_arguments_are_errors() -> None:
    scores = torch.zeros(3, 4)
    for call, match in [
        (lambda: prototype_codes(scores[0]), "rows, prototypes"),
        (lambda: prototype_codes(scores, 0.0), "epsilon"),
        (lambda: prototype_codes(scores * math.nan), "NaN"),
        (lambda: prototype_loss(scores, scores[:2], codes_a=scores, codes_b=scores), "one shape"),
        (lambda: prototype_loss(scores, scores, codes_a=scores[:, :1], codes_b=scores), "one shape"),
        (lambda: prototype_loss(scores * math.nan, scores, codes_a=scores, codes_b=scores), "NaN"),
        (lambda: prototype_loss(scores, scores, codes_a=scores, codes_b=scores, temperature=0.0), "temperature"),
        (lambda: PrototypeObjective(prototypes=1), "at least 2 prototypes"),
        (lambda: PrototypeObjective(temperature=-1.0), "temperature"),
        (lambda: PrototypeObjective(epsilon=0.0), "epsilon"),
        (lambda: PrototypeObjective(dim=4)(Embedding(torch.eye(3)), Embedding(torch.eye(3))), r"\{dim: 3\}"),
        (lambda: PrototypeObjective(dim=3)(Embedding(torch.eye(3)), Embedding(torch.eye(3)[:2])), "as many rows"),
    ]:
        with pytest.raises(UserError, match=match):
            call()


def test_still_prototypes_do_not_change_while_the_towers_train() -> None:
    made = PrototypeObjective(prototypes=4, still=0.5, dim=6)
    with torch.no_grad():
        made.prototypes.mul_(1 + 2e-7)  # normalising again would change the last bits
    before = made.prototypes.detach().clone()
    tower = torch.eye(6).requires_grad_()
    optimizer = torch.optim.AdamW([tower, made.prototypes], lr=0.1, weight_decay=0.0)
    a, b = units(7, dtype=torch.float32), units(7, seed=1, dtype=torch.float32)
    for progress, moved in ((0.0, False), (0.49, False), (0.5, True)):
        made.set_progress(progress)
        optimizer.zero_grad()
        loss = made(Embedding(F.normalize(a @ tower, dim=1)), Embedding(b)).loss
        (loss + 0.0 * made.prototypes.sum()).backward()  # several processes give every weight a gradient
        optimizer.step()
        made.after_step()
        assert tower.grad.any()
        assert torch.equal(made.prototypes, before) is not moved
    assert not torch.equal(tower, torch.eye(6))
    with pytest.raises(UserError, match="still: expected a fraction"):
        PrototypeObjective(still=1.5)
