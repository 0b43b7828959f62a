"""Settings of an evaluation and the base class of its tasks; each field is also a flag of `mmalign evaluate`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.report.result import EvalResult
from mmalign.model import Aligner

Pair = tuple[str, str]


@dataclass(frozen=True)
class EvalSettings:
    """Settings that every task takes.

    Args:
        split: Split to evaluate: train, validation, test or all.
        batch_size: Samples per forward pass.
        bootstrap: Number of bootstrap resamples of each confidence interval; 0: no intervals.
        seed: Seed of the resampling and of the task's other random draws.
    """

    split: str = "validation"
    batch_size: int = 256
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Task(ABC):
    """One way to evaluate a model: a frozen dataclass whose fields are its settings, and whose docstring is their help.

    A setting that several tasks take has the same type, default and first sentence in all of them.

    `name` is its name for `--task`. With `reads_prompts`, only the first of its towers reads samples of the data.
    """

    name: ClassVar[str]
    reads_prompts: ClassVar[bool] = False

    @abstractmethod
    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The towers that `run` evaluates, of the two that the user names.

        Raises:
            UserError: the pair lacks a tower that the task needs.
        """

    @abstractmethod
    def run(self, model: Aligner, data: Dataset, towers: tuple[str, ...], settings: EvalSettings) -> EvalResult:
        """Evaluate.

        Args:
            model: The model.
            data: The data, with the samples of the split read.
            towers: The towers, as `towers` returns them.
            settings: Settings that every task takes.
        """


@dataclass(frozen=True)
class PromptTask(Task):
    """A task that compares the samples of one tower with prompts, which the other tower reads."""

    reads_prompts: ClassVar[bool] = True

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The tower of the samples, and the tower of the prompts: the last one whose samples are strings."""
        readers = [tower for tower in pair if model.modalities[tower].value_is_sample]
        if not readers:
            raise UserError(f"{self.name} needs a tower that reads strings, to embed prompts; {pair} read none")
        return (pair[0] if readers[-1] == pair[1] else pair[1], readers[-1])
