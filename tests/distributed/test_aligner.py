"""The whole step, towers to loss: several pairs and terms, sides missing on a whole process, chunks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.distributed.aligner_work import Step, batch_of, gradients, model_of, terms
from tests.distributed.pool import Pool


def compare(outcomes: list[dict[str, Tensor]], whole: dict[str, Tensor]) -> None:
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(torch.stack([each["loss"] for each in outcomes]).mean(), whole["loss"], **close)
    for each in outcomes:
        for name in whole.keys() - {"loss"}:
            assert whole[name].abs().sum() > 0, f"{name} is not trained at all"
            torch.testing.assert_close(each[name], whole[name], **close, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(
    "lacking", [{}, {"z": [0, 3]}, {"z": [0, 1, 2], "x": [6]}], ids=["all", "some", "one side on one process"]
)
@pytest.mark.parametrize("counts", [[7], [3, 4], [3, 2, 2]], ids=str)
def test_a_step_equals_that_of_one_process_and_one_chunk(
    pool: Pool, counts: list[int], lacking: dict[str, list[int]], chunk: int | None
) -> None:
    whole = gradients(Step([sum(counts)], lacking))
    if len(counts) == 1:
        compare([gradients(Step(counts, lacking, chunk))], whole)
    else:
        compare(pool.run("aligner_work:gradients", len(counts), Step(counts, lacking, chunk)), whole)


@pytest.mark.parametrize("lacking", [{}, {"z": [0, 1, 2], "x": [6]}], ids=["all", "one side on one process"])
def test_what_is_logged_equals_that_of_one_process(pool: Pool, lacking: dict[str, list[int]]) -> None:
    whole = terms(Step([7], lacking))
    assert {"x_y/live", "x_y/perplexity", "x_y/support"} <= whole.keys()
    logged = pool.run("aligner_work:terms", 3, Step([3, 2, 2], lacking))
    assert all(each.keys() == whole.keys() for each in logged)
    for name, term in whole.items():  # as the mean over processes
        mean = torch.stack([each[name] for each in logged]).mean()
        torch.testing.assert_close(mean, term, rtol=1e-6, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("lacking", [{}, {"z": [0, 1, 2], "x": [6]}], ids=["all", "one side on one process"])
@pytest.mark.parametrize("counts", [[3, 4], [3, 2, 2]], ids=str)
def test_group_whitening_has_the_statistics_of_all_processes(
    pool: Pool, counts: list[int], lacking: dict[str, list[int]]
) -> None:
    whole = gradients(Step([sum(counts)], lacking, whitening=2))
    compare(pool.run("aligner_work:gradients", len(counts), Step(counts, lacking, whitening=2)), whole)
    assert (whole["encoders.x.layers.1.weight"] - gradients(Step([7], lacking))["encoders.x.layers.1.weight"]).any()


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("lacking", [{}, {"z": [0, 3], "x": [0, 1, 2]}], ids=["all", "no views on one process"])
def test_two_views_equal_those_of_one_process(pool: Pool, lacking: dict[str, list[int]], chunk: int | None) -> None:
    whole = gradients(Step([7], lacking, views=True))
    compare(pool.run("aligner_work:gradients", 3, Step([3, 2, 2], lacking, chunk, views=True)), whole)
    assert not torch.equal(whole["loss"], gradients(Step([7], lacking))["loss"])


def test_chunks_draw_the_same_random_numbers_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: the gradient is that of the chunks' own forward pass, which leaves the generator where it was."""
    step = Step([7], chunk=3, dropout=0.5)
    cached, next_cached = gradients(step), torch.rand(1)
    monkeypatch.setattr("mmalign.model.checkpoint", lambda run, *arguments, **_: run(*arguments))
    straight, next_straight = gradients(step), torch.rand(1)
    for name, gradient in straight.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-10, atol=1e-10)
    assert next_cached == next_straight
    assert (
        gradients(Step([7], dropout=0.5))["encoders.x.layers.1.weight"] - straight["encoders.x.layers.1.weight"]
    ).any()


def test_chunks_hold_the_activations_of_none_between_the_passes() -> None:
    def held(chunk: int | None) -> int:
        step = Step([64], chunk=chunk)
        model, seen = model_of(step), {}

        def keep(tensor: Tensor) -> Any:
            if tensor.grad_fn is not None or not tensor.requires_grad:
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        batch = batch_of(model, step, slice(0, 64))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            embedded = model(batch)
        assert embedded["x"].vector.requires_grad
        return sum(seen.values())

    assert held(8) < held(None) / 3
