"""The tasks of `mmalign evaluate`: one entry per task, from which flags, help and messages are derived."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_origin

from mmalign.configuration.arguments import Argument, arguments_of
from mmalign.errors import UserError
from mmalign.evaluation.settings import EvalSettings, Task
from mmalign.evaluation.tasks.few_shot import FewShot
from mmalign.evaluation.tasks.geometry import Geometry
from mmalign.evaluation.tasks.grounding import Grounding
from mmalign.evaluation.tasks.linear_probe import LinearProbe
from mmalign.evaluation.tasks.retrieval import Retrieval
from mmalign.evaluation.tasks.robustness import Robustness
from mmalign.evaluation.tasks.zero_shot_classification import ZeroShotClassification
from mmalign.evaluation.tasks.zero_shot_multilabel import ZeroShotMultiLabel
from mmalign.evaluation.tasks.zero_shot_regression import ZeroShotRegression
from mmalign.registry import nearest

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Retrieval,
        ZeroShotClassification,
        ZeroShotMultiLabel,
        ZeroShotRegression,
        LinearProbe,
        FewShot,
        Robustness,
        Geometry,
        Grounding,
    )
}


SCALARS = (bool, int, float, str)
"""Types of a value on the command line."""


def configure(task: str | Task, options: Mapping[str, Any]) -> tuple[Task, EvalSettings]:
    """The task and the settings that options stand for.

    Args:
        task: One of `TASKS`, or a task with its settings.
        options: Fields of `EvalSettings` and, where `task` is a name, of the task.

    Raises:
        UserError: unknown task, or an option that the task does not take.
    """
    if isinstance(task, str):
        require_task(task)
    common = names_of(EvalSettings)
    own = names_of(TASKS[task]) if isinstance(task, str) else []
    for name in options:
        if name not in [*common, *own]:
            raise UserError(_refusal(name, task))
    settings = EvalSettings(**{name: value for name, value in options.items() if name in common})
    if isinstance(task, Task):
        return task, settings
    return TASKS[task](**{name: value for name, value in options.items() if name in own}), settings


def names_of(kind: type[EvalSettings] | type[Task]) -> list[str]:
    """Names of the settings of a task, or of all tasks."""
    return [field.name for field in fields(kind)]


def flags_of(kind: type[EvalSettings] | type[Task]) -> dict[str, Argument]:
    """The settings of a task, or of all tasks, as flags of `mmalign evaluate`, by name."""
    return {name: _flag(argument) for name, argument in arguments_of(kind).items()}


def flags() -> dict[str, Argument]:
    """Every flag of `mmalign evaluate` that is a setting, by name."""
    settings = flags_of(EvalSettings)
    for task in TASKS.values():
        for name, argument in flags_of(task).items():
            settings.setdefault(name, argument)
    return settings


def require_task(name: str) -> None:
    """Raise a `UserError` that names the nearest task if there is none of this name."""
    if name not in TASKS:
        raise UserError(f"--task: no task called {name!r}{nearest(name, TASKS)}")


def _flag(argument: Argument) -> Argument:
    kinds = [kind for kind in get_args(argument.kind) or (argument.kind,) if kind is not type(None)]
    if get_origin(kinds[0]) is Sequence or get_origin(argument.kind) is Sequence:
        inner = get_args(kinds[0]) or kinds
        kind, default = list[next(one for one in inner if one in SCALARS)], None  # type: ignore[misc]
    else:
        kind, default = next(one for one in kinds if one in SCALARS), argument.default
    return Argument(argument.name, kind, default, argument.about)


def _taking(name: str) -> list[str]:
    return [task.name for task in TASKS.values() if name in names_of(task)]


def _refusal(name: str, task: str | Task) -> str:
    if not isinstance(task, str):
        return f"{name}: expected a field of EvalSettings; settings of the task {task.name!r} belong to its constructor"
    if tasks := _taking(name):
        return f"--{name}: the task {task!r} does not take this setting; it belongs to {', '.join(tasks)}"
    return f"--{name}: no task takes this setting{nearest(name, list(flags()))}"
