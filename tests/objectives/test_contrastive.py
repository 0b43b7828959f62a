import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmalign import registry
from mmalign.errors import UserError
from mmalign.objectives.contrastive import ClipObjective, SiglipObjective
from mmalign.objectives.functional import clip_loss, siglip_loss
from mmalign.types import Embedding


def sides(rows: int, dim: int = 16) -> tuple[Embedding, Embedding]:
    a, b = (Embedding(F.normalize(torch.randn(rows, dim), dim=1)) for _ in range(2))
    return a, b


@pytest.mark.parametrize("groups", [None, torch.tensor([1, 1, 2, 3, 3, 3])])
def test_on_one_process_they_are_the_pure_losses(groups: Tensor | None) -> None:
    a, b = sides(6)
    named = {"groups_a": groups, "groups_b": groups}
    clip = ClipObjective()(a, b, groups)
    torch.testing.assert_close(clip.loss, clip_loss(a.vector, b.vector, 1 / 0.07, **named))
    torch.testing.assert_close(clip.terms["scale"], torch.tensor(1 / 0.07))
    siglip = SiglipObjective(initial_bias=-3.0)(a, b, groups)
    torch.testing.assert_close(siglip.loss, siglip_loss(a.vector, b.vector, 10.0, -3.0, **named))
    assert siglip.terms["bias"] == -3.0
    assert clip.loss.ndim == siglip.loss.ndim == clip.terms["scale"].ndim == siglip.terms["bias"].ndim == 0


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_registered_trainable_and_scored_by_the_cosine(name: str) -> None:
    objective = registry.load("objectives", name)()
    inputs, tower = torch.randn(24, 8), nn.Linear(8, 16)
    target = F.normalize(torch.randn(24, 16), dim=1)
    parameters = [*tower.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(60):
        output = objective(Embedding(F.normalize(tower(inputs), dim=1)), Embedding(target))
        optimizer.zero_grad()
        output.loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        optimizer.step()
        objective.after_step()
        losses.append(float(output.loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    a = F.normalize(tower(inputs), dim=1).detach()
    scores = objective.similarity(Embedding(a), Embedding(target[:5]))
    expected = torch.stack([torch.cosine_similarity(a, row[None]) for row in target[:5]], dim=1)
    torch.testing.assert_close(scores, expected)


def test_the_scale_is_capped_after_a_step_and_not_before() -> None:
    objective = ClipObjective()
    with torch.no_grad():
        objective.log_scale.fill_(5.0)
    a, b = sides(4)
    output = objective(a, b)
    torch.testing.assert_close(output.terms["scale"], torch.tensor(math.exp(5.0)))
    output.loss.backward()
    assert objective.log_scale.grad.abs().item() > 0  # the cap is outside the graph: the gradient is not cut
    objective.after_step()
    torch.testing.assert_close(objective.scale, torch.tensor([100.0]))

    for free in (ClipObjective(max_scale=None), SiglipObjective()):
        with torch.no_grad():
            free.log_scale.fill_(5.0)
        free.after_step()
        assert float(free.log_scale.detach()) == 5.0


def test_a_scale_below_the_cap_is_left_alone() -> None:
    objective = ClipObjective()
    objective.after_step()
    torch.testing.assert_close(objective.scale, torch.tensor([1 / 0.07]))


def test_loading_a_scale_above_the_cap_warns_and_keeps_it() -> None:
    free = ClipObjective(initial_scale=112.3, max_scale=None)
    capped = ClipObjective()
    with pytest.warns(UserWarning, match=r"112\.3.*max_scale"):
        capped.load_state_dict(free.state_dict())
    torch.testing.assert_close(capped.scale, torch.tensor([112.3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_cap = ClipObjective(initial_scale=100.0)
        ClipObjective().load_state_dict(at_cap.state_dict())
        ClipObjective(max_scale=None).load_state_dict(free.state_dict())


def test_a_fixed_scale_is_not_trained() -> None:
    objective = ClipObjective(initial_scale=20.0, learn_scale=False)
    assert [p for p in objective.parameters() if p.requires_grad] == []
    assert "log_scale" in objective.state_dict()


def test_siglip_bias_comes_from_the_first_training_batch_and_stays() -> None:
    objective = SiglipObjective()
    objective.eval()
    assert float(objective(*sides(9)).terms["bias"]) == pytest.approx(-math.log(8))
    assert not objective.bias_is_set  # looking at a validation batch first decides nothing

    objective.train()
    for rows in (65, 3):
        assert float(objective(*sides(rows)).terms["bias"]) == pytest.approx(-math.log(64))
    loaded = SiglipObjective()
    loaded.load_state_dict(objective.state_dict())
    assert float(loaded(*sides(5)).terms["bias"]) == pytest.approx(-math.log(64))
    assert float(SiglipObjective(initial_bias=-10.0)(*sides(5)).terms["bias"]) == -10.0
    assert SiglipObjective()(*sides(1)).loss.isfinite()  # one pair, no negative


def test_siglip_starts_at_the_true_rate_of_positives() -> None:
    objective = SiglipObjective(initial_scale=1e-6)
    a, b = sides(100)
    bias = objective(a, b).terms["bias"]
    torch.testing.assert_close(torch.sigmoid(bias), torch.tensor(0.01))
    # Where predicted and real rate agree, the bias has no gradient; at the paper's -10 it has.
    objective(a, b).loss.backward()
    at_start = objective.bias_change.grad.abs().item()
    far = SiglipObjective(initial_scale=1e-6, initial_bias=-10.0)
    far(a, b).loss.backward()
    assert at_start < 1e-4 < 0.9 < far.bias_change.grad.abs().item()


def test_half_precision_embeddings_are_widened() -> None:
    a, b = sides(8)
    half = [Embedding(side.vector.bfloat16()) for side in (a, b)]
    for objective in (ClipObjective(), SiglipObjective()):
        assert objective(*half).loss.dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = objective(a, b).loss
        torch.testing.assert_close(inside, objective(a, b).loss, rtol=0.0, atol=0.0)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UserError, match="initial_scale"):
        ClipObjective(initial_scale=0.0)
    with pytest.raises(UserError, match=r"max_scale \(5\) is below initial_scale"):
        ClipObjective(max_scale=5.0)
    a, b = sides(4)
    with pytest.raises(UserError, match="as many rows"):
        ClipObjective()(a, b[:3])
    with pytest.raises(UserError, match="5 groups"):
        SiglipObjective()(a, b, torch.arange(5))
