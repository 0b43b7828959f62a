"""Tasks and settings: one list, from which flags, help and messages are derived."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from mmalign.configuration.arguments import Argument, arguments_of
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation import registry
from mmalign.evaluation.registry import TASKS, configure, flags, names_of
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.settings import EvalSettings, Pair, Task
from mmalign.evaluation.tasks.retrieval import Retrieval
from mmalign.model import Aligner


@dataclass(frozen=True)
class Counting(Task):
    """A new task: one class and one entry.

    Args:
        step: Step of the count.
    """

    name: ClassVar[str] = "counting"
    step: int = 2

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        return pair

    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        return EvalResult(self.name, {"n": self.step}, {"split": settings.split})


def test_options_go_to_the_task_or_to_the_settings() -> None:
    task, settings = configure("retrieval", {"seed": 3, "gallery": "corpus", "ks": [1, 5]})
    assert task == Retrieval(gallery="corpus", ks=[1, 5])
    assert settings == EvalSettings(seed=3)


def test_a_task_with_its_settings_takes_common_options_only() -> None:
    chosen = Retrieval(ties="middle")
    assert configure(chosen, {"split": "test"}) == (chosen, EvalSettings(split="test"))
    with pytest.raises(UserError, match="ties: expected a field of EvalSettings"):
        configure(chosen, {"ties": "worst"})


@pytest.mark.parametrize("task", TASKS)
def test_a_setting_of_another_task_is_refused_with_its_tasks(task: str) -> None:
    own = names_of(TASKS[task])
    for name in {name for other in TASKS.values() for name in names_of(other)} - set(own):
        taking = ", ".join(other.name for other in TASKS.values() if name in names_of(other))
        with pytest.raises(UserError, match=f"--{name}: the task '{task}' does not take this setting; .* {taking}$"):
            configure(task, {name: 0})


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UserError, match="no task called 'retrival'; did you mean 'retrieval'"):
        configure("retrival", {})
    with pytest.raises(UserError, match="--galery: no task takes this setting; did you mean 'gallery'"):
        configure("retrieval", {"galery": "corpus"})


def test_a_setting_means_the_same_in_every_task() -> None:
    first: dict[str, Argument] = {}
    for task in TASKS.values():
        for name, argument in arguments_of(task).items():
            other = first.setdefault(name, argument)
            assert (argument.default, argument.sentence) == (other.default, other.sentence), (task.name, name)
    assert not set(names_of(EvalSettings)) & set(first)
    assert all(argument.sentence != "." for argument in first.values())


def test_types_on_the_command_line() -> None:
    found = flags()
    assert (found["ks"].kind, found["ks"].default) == (list[int], None)
    assert found["ensemble"].kind == list[str]
    assert (found["threshold"].kind, found["threshold"].default) == (float, None)
    assert found["prompts"].kind is str
    assert (found["top"].kind, found["top"].default) == (float, 0.2)


def test_a_new_task_is_one_class_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "counting", Counting)
    assert flags()["step"].about == "Step of the count."
    assert configure("counting", {"step": 5, "split": "test"}) == (Counting(5), EvalSettings("test"))
