"""Settings of an evaluation and the base class of its tasks; each field is also a flag of `mmalign evaluate`."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.report.result import EvalResult, provenance
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
        dims: Number of leading dimensions of each vector to evaluate with, renormalised (Matryoshka); null = all.
    """

    split: str = "validation"
    batch_size: int = 256
    bootstrap: int = 1000
    seed: int = 0
    dims: int | None = None

    def provenance(
        self,
        model: Aligner,
        data: Dataset,
        protocol: Mapping[str, str],
        *,
        resamples: int | None = None,
        prompts_hash: str | None = None,
    ) -> dict[str, Any]:
        """Everything needed to reproduce the scores of a task with these settings.

        Args:
            model: The model.
            data: The data.
            protocol: How each score is defined.
            resamples: Number of resamples, for a task that does not use `bootstrap`.
            prompts_hash: Hash of the prompts.
        """
        used = self.bootstrap if resamples is None else resamples
        return provenance(
            model, data, split=self.split, seed=self.seed, protocol=protocol, resamples=used, prompts_hash=prompts_hash
        )


@dataclass(frozen=True)
class Task(ABC):
    """One way to evaluate a model: a frozen dataclass whose fields are its settings, and whose docstring is their help.

    A setting that several tasks take has the same type, default and first sentence in all of them.

    `name` is its name for `--task`; `has_rows` says whether its result has a row per query or sample, `reads_samples`
    whether it reads decoded samples again and again, besides their features.
    """

    name: ClassVar[str]
    has_rows: ClassVar[bool] = False
    reads_samples: ClassVar[bool] = False

    @abstractmethod
    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The towers that `run` evaluates, of the two that the user names.

        Raises:
            UserError: the pair lacks a tower that the task needs.
        """

    def towers_read(self, towers: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
        """The towers whose samples are read from the data before `run`; by default all.

        Args:
            towers: As `towers` returns them.
            known: Towers for which the data have a column.
        """
        return towers

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

    def towers_read(self, towers: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
        """The tower of the samples: the prompts are not in the data."""
        return towers[:1]

    def towers(self, model: Aligner, pair: Pair) -> tuple[str, ...]:
        """The tower of the samples, and the tower of the prompts: the last one whose samples are strings."""
        return prompt_towers(model, pair, self.name)


def prompt_towers(model: Aligner, pair: Pair, what: str) -> Pair:
    """The tower of the samples, and the tower of the prompts: the last one of a pair whose samples are strings.

    Args:
        model: The model.
        pair: Two of its towers.
        what: What needs prompts, for the message.

    Raises:
        UserError: the samples of neither tower are strings.
    """
    readers = [tower for tower in pair if model.modalities[tower].value_is_sample]
    if not readers:
        raise UserError(f"{what} needs a tower that reads strings, to embed prompts; {pair} read none")
    return (pair[0] if readers[-1] == pair[1] else pair[1], readers[-1])
