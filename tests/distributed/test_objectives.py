"""Value and every gradient on several processes equal those of one process on the whole batch."""

from typing import Any

import pytest
import torch

from tests.distributed.pool import Pool
from tests.distributed.work import Outcome, Trial, step

COUNTS = [[7], [4, 4], [5, 2], [3, 3, 3], [4, 1, 2], [3, 0, 4], [0, 0, 5]]
ACROSS = [0, 1, 0, 2, 1, 1, 3, 0, 4]  # positives of one row lie on several processes
ARGUMENTS: dict[str, dict[str, Any]] = {
    "clip": {"initial_scale": 7.0},
    "siglip": {"initial_scale": 7.0},
    "fdt": {"initial_scale": 7.0},
    "late_interaction": {"initial_scale": 7.0, "level_b": "parts"},
    "token_mean": {"initial_scale": 7.0, "level_b": "parts"},
    "one_to_k": {"initial_scale": 7.0},
    "apart": {"temperature": 0.5},
    "differences": {"temperature": 0.5},
    "transport": {"initial_scale": 7.0, "level_b": "parts", "epsilon": 0.3, "tolerance": 1e-12, "max_iterations": 1000},
    "pcmepp": {"bottleneck": 0.1, "pseudo_weight": 0.5},
    "prolip": {"bottleneck": 0.1, "inclusion": 0.1},
}


def compare(outcomes: list[Outcome], whole: Outcome) -> None:
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(torch.stack([each.loss for each in outcomes]).mean(), whole.loss, **close)
    for each in outcomes:
        assert each.gradients.keys() == whole.gradients.keys()
        for name, gradient in whole.gradients.items():
            assert gradient.abs().sum() > 0 or "bias_change" in name, f"{name} is not trained at all"
            torch.testing.assert_close(each.gradients[name], gradient, **close, msg=lambda text, n=name: f"{n}: {text}")
    for side in range(2):  # DDP averages parameters' gradients only: those of the inputs are sums over processes
        parts = torch.cat([each.inputs[side] for each in outcomes]) / len(outcomes)
        torch.testing.assert_close(parts, whole.inputs[side], **close)


@pytest.mark.parametrize("groups", [False, True], ids=["pairs", "groups across processes"])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("objective", sorted(ARGUMENTS))
def test_equals_one_process(pool: Pool, objective: str, counts: list[int], groups: bool) -> None:
    total = sum(counts)
    trial = Trial(objective, counts, ACROSS[:total] if groups else None, ARGUMENTS[objective])
    outcomes = pool.run("step", len(counts), trial)
    trial.counts = [total]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("groups", [False, True], ids=["rows", "groups across processes"])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("objective", ["one_to_k", "clip", "siglip"])
def test_several_items_a_row_equal_one_process(pool: Pool, objective: str, counts: list[int], groups: bool) -> None:
    total = sum(counts)
    trial = Trial(objective, counts, ACROSS[:total] if groups else None, {"initial_scale": 7.0})
    trial.items = [3, 1, 2, 5, 1, 1, 4, 2, 1][:total]
    outcomes = pool.run("step", len(counts), trial)
    trial.counts = [total]
    compare(outcomes, step(trial))


def test_one_to_k_without_normalising_equals_one_process(pool: Pool) -> None:
    trial = Trial("one_to_k", [3, 0, 4], arguments={"normalise": False}, items=[2, 1, 3, 1, 1, 2, 4])
    outcomes = pool.run("step", 3, trial)
    trial.counts = [7]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("kind", ["attention", "token", "mean", "bag"])
def test_every_gaussian_head_equals_one_process(pool: Pool, kind: str) -> None:
    trial = Trial("pcmepp", [3, 0, 4], arguments=ARGUMENTS["pcmepp"], pool=kind)
    outcomes = pool.run("step", 3, trial)
    trial.counts = [7]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_mixed_samples_equal_one_process(pool: Pool, counts: list[int]) -> None:
    trial = Trial("pcmepp", counts, arguments=ARGUMENTS["pcmepp"], mixed=True)
    outcomes = pool.run("step", len(counts), trial)
    trial.counts = [sum(counts)]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("objective", ["clip", "siglip"])
def test_negatives_that_a_guide_leaves_out_equal_one_process(pool: Pool, objective: str, counts: list[int]) -> None:
    trial = Trial(objective, counts, ACROSS[: sum(counts)], ARGUMENTS[objective], guided=True)
    outcomes = pool.run("step", len(counts), trial)
    trial.counts = [sum(counts)]
    whole = step(trial)
    compare(outcomes, whole)
    trial.guided = False
    assert step(trial).loss > whole.loss


@pytest.mark.parametrize("counts", [[7], [3, 0, 4]], ids=str)
@pytest.mark.parametrize("objective", ["late_interaction", "fdt"])
def test_reduced_tokens_equal_one_process(pool: Pool, objective: str, counts: list[int]) -> None:
    trial = Trial(objective, counts, ACROSS[:7], {"initial_scale": 7.0}, reduce=2)
    outcomes = pool.run("step", len(counts), trial)
    trial.counts = [7]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("contrast", [True, False])
def test_partners_of_the_same_group_equal_one_process(pool: Pool, contrast: bool) -> None:
    trial = Trial("differences", [4, 1, 2], ACROSS[:7], {"partner": "group", "contrast": contrast, "temperature": 0.5})
    outcomes = pool.run("step", 3, trial)
    trial.counts = [7]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_kept_tokens_equal_one_process(pool: Pool, counts: list[int]) -> None:
    trial = Trial("late_interaction", counts, ACROSS[: sum(counts)], {"initial_scale": 7.0, "keep": 0.5})
    outcomes = pool.run("step", len(counts), trial)
    trial.counts = [sum(counts)]
    compare(outcomes, step(trial))


@pytest.mark.parametrize("gradient", ["implicit", "last_step"])
def test_gradients_through_the_plan_equal_one_process(pool: Pool, gradient: str) -> None:
    trial = Trial("transport", [4, 1, 2], ACROSS[:7], {**ARGUMENTS["transport"], "gradient": gradient, "rho_b": 0.5})
    outcomes = pool.run("step", 3, trial)
    trial.counts = [7]
    compare(outcomes, step(trial))


def test_one_group_across_all_processes_and_a_frozen_scale(pool: Pool) -> None:
    trial = Trial("clip", [2, 4], [5] * 6, {"learn_scale": False})
    outcomes = pool.run("step", 2, trial)
    trial.counts = [6]
    compare(outcomes, step(trial))


def test_a_gather_without_gradient_fails_the_comparison(pool: Pool) -> None:
    counts = [3, 3]
    outcomes = pool.run("step", 2, Trial("open_clip", counts))
    whole = step(Trial("open_clip", [6]))
    # The value is right and the towers' gradient is half of what it should be, the scale's all of it.
    torch.testing.assert_close(torch.stack([each.loss for each in outcomes]).mean(), whole.loss)
    half = {name: (0.5 if name[0] in "ab" else 1.0) * grad for name, grad in whole.gradients.items()}
    torch.testing.assert_close(outcomes[0].gradients["a.weight"], half["a.weight"])
    scale = "log_scale"
    torch.testing.assert_close(outcomes[0].gradients[scale], half[scale])
    with pytest.raises(AssertionError, match=r"a\.weight"):
        compare(outcomes, whole)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("objective", ["clip", "siglip"])
def test_equals_one_process_on_gpus(pool: Pool, objective: str) -> None:
    trial = Trial(objective, [5, 2], ACROSS[:7], ARGUMENTS[objective])
    outcomes = pool.run("step_on_own_gpu", 2, trial, backend="nccl")
    trial.counts = [7]
    compare(outcomes, step(trial))
