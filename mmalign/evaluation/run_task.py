"""One call from a model and data to a result, by the task's name."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.prompts.class_prompts import Prompts
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts, ValuePrompts
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.tasks.linear_probe import evaluate_probe
from mmalign.evaluation.tasks.retrieval import evaluate_retrieval
from mmalign.evaluation.tasks.zero_shot_classification import evaluate_zero_shot
from mmalign.evaluation.tasks.zero_shot_multilabel import evaluate_multi_label
from mmalign.evaluation.tasks.zero_shot_regression import evaluate_regression
from mmalign.model import Aligner
from mmalign.registry import nearest

Sides = tuple[str, str]


class Task(NamedTuple):
    """How one task is run.

    Args:
        run: `(model, data, **sides, **arguments) -> EvalResult`; its parameters are the task's options.
        sides: The two towers -> `run`'s names for what it takes of them; only `class_side` needs no data.
        load: Reads the prompts file, where the task has one.
    """

    run: Callable[..., EvalResult]
    sides: Callable[[Aligner, Sides], dict[str, str]]
    load: Callable[[str | Path], Any] | None = None


def evaluate(
    model: Aligner,
    data: Dataset,
    task: str,
    *,
    sides: Sides,
    split: str = "validation",
    relevance: str = "record",
    prompts: str | Path | None = None,
    batch_size: int = 256,
    bootstrap: int = 1000,
    seed: int = 0,
    score: str = "",
    **options: Any,
) -> EvalResult:
    """Measure a model on data, which is prepared here.

    Args:
        model: What to measure.
        data: Where the rows come from; need not be prepared.
        task: One of `TASKS`.
        sides: The two towers. Zero-shot classifies the one that the data has by prompts through the other: the
            tower whose samples are strings.
        split: train, validation, test or all.
        relevance: Which gallery items are relevant in retrieval: record, content or group.
        prompts: YAML file of prompts; default: the class names as they are.
        batch_size: Samples a forward pass.
        bootstrap: Resamples behind each interval.
        seed: Seed of the resampling.
        score: Another score that the pair's objective offers, for instance mean under pcmepp; "" = as trained.
        options: What this task alone takes, see its function.

    Raises:
        UserError: unknown task, an option of another task, a side that the data lacks, a split without rows.
    """
    if task not in TASKS:
        raise UserError(f"no task called {task!r}{nearest(task, TASKS)}")
    run, of_sides, load = TASKS[task]
    taken = inspect.signature(run).parameters
    for name in options:
        if name not in taken:
            others = [other for other, it in TASKS.items() if name in inspect.signature(it.run).parameters]
            known = f"it belongs to {', '.join(others)}" if others else "no task has"
            raise UserError(f"--{name}: the task {task!r} has no such option; {known}")
    arguments = {"split": split, "relevance": relevance, "batch_size": batch_size, "bootstrap": bootstrap, "seed": seed}
    arguments |= {"score": score, "prompts": load(prompts) if load and prompts else None, **options}
    towers = of_sides(model, sides)
    prepare(model, data, tuple(tower for name, tower in towers.items() if name != "class_side"), split)
    return run(model, data, **towers, **{name: value for name, value in arguments.items() if name in taken})


def prepare(model: Aligner, data: Dataset, sides: tuple[str, ...], split: str) -> None:
    """Decode what is measured.

    Raises:
        UserError: the data has no column for a side.
    """
    for side in sides:
        if side not in data.towers:
            raise UserError(
                f"the data has no column for the tower {side!r}; name it with --data.columns.{side} COLUMN"
                f" (named: {', '.join(data.towers) or 'none'})"
            )
    data.prepare({side: model.modalities[side] for side in sides}, splits=None if split == "all" else [split])


def _both(model: Aligner, sides: Sides) -> dict[str, str]:
    return {"a": sides[0], "b": sides[1]}


def _one(model: Aligner, sides: Sides) -> dict[str, str]:
    files = [side for side in sides if not model.modalities[side].value_is_sample]
    return {"side": (files or [*sides])[0]}


def _by_prompts(model: Aligner, sides: Sides) -> dict[str, str]:
    value_is_sample = [side for side in sides if model.modalities[side].value_is_sample]
    if not value_is_sample:
        raise UserError(f"zero-shot needs a tower that reads strings, to embed class names; {sides} read none")
    class_side = value_is_sample[-1]
    return {"side": sides[0] if class_side == sides[1] else sides[1], "class_side": class_side}


TASKS = {
    "retrieval": Task(evaluate_retrieval, _both),
    "zero-shot": Task(evaluate_zero_shot, _by_prompts, Prompts.load),
    "multi-label": Task(evaluate_multi_label, _by_prompts, ClassPrompts.load),
    "regression": Task(evaluate_regression, _by_prompts, ValuePrompts.load),
    "probe": Task(evaluate_probe, _one),
}
