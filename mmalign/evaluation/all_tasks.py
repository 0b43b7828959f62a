"""`mmalign.evaluate_all`: every task that the data allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import Record
from mmalign.embedding.loop import opened
from mmalign.errors import BadSample, UserError
from mmalign.evaluation.registry import TASKS, flags, names_of
from mmalign.evaluation.report.result import EvalResult
from mmalign.evaluation.run_task import evaluate, opened_for
from mmalign.evaluation.settings import EvalSettings
from mmalign.model import Aligner
from mmalign.registry import nearest
from mmalign.selection import model_of, pair_of


@dataclass(frozen=True)
class Evaluations:
    """Results of all tasks that the data allow.

    Args:
        results: Task -> result.
        skipped: Task -> why the model or the data do not allow it.
    """

    results: dict[str, EvalResult] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def show(self) -> None:
        """Print every table, then the skipped tasks with their reasons."""
        from rich.console import Console
        from rich.text import Text

        from mmalign.safe_io.printable import printable

        for result in self.results.values():
            result.show()
        for task, reason in self.skipped.items():
            Console().print(Text(f"{task} skipped: {printable(reason)}"))

    def to_json(self) -> dict[str, Any]:
        """The results by task as JSON values, and the skipped tasks."""
        return {"results": {task: one.to_json() for task, one in self.results.items()}, "skipped": self.skipped}

    def append_to(self, path: Path | str) -> None:
        """Append every result to `results.json` of a bundle or run."""
        for result in self.results.values():
            result.append_to(path)


def evaluate_all(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    *,
    tasks: Sequence[str] = (),
    pair: Sequence[str] = (),
    device: str = "auto",
    **settings: Any,
) -> Evaluations:
    """Evaluate a model by every task that the data allow.

    A task is skipped, with its reason, if the model has no pair for it, the data have no labels or numbers for it, or a
    setting that it needs is not given, such as `target` for regression.

    Args:
        model: A model, or the path of a bundle or run.
        data: The configuration of the data, or data that are open.
        tasks: Names of the tasks to try; default: all.
        pair: The two towers, as in `mmalign.evaluate`.
        device: Device to load a bundle on, see `mmalign.load`.
        settings: Fields of `EvalSettings` and of the tasks; each task receives those that it takes.

    Returns:
        The results, and the skipped tasks; `show()` prints them.

    Raises:
        UserError: a setting or a task that does not exist, or the data allow no task.
    """
    for name in settings:
        if name not in flags():
            raise UserError(f"--{name}: no task takes this setting{nearest(name, list(flags()))}")
    for name in tasks:
        if name not in TASKS:
            raise UserError(f"--tasks: no task called {name!r}{nearest(name, TASKS)}")
    loaded = model_of(model, device)
    common = {name: value for name, value in settings.items() if name in names_of(EvalSettings)}
    split = str(common.get("split", EvalSettings.split))
    done = Evaluations()
    known: dict[tuple[str, ...], Dataset] = {}
    for name, kind in TASKS.items():
        if tasks and name not in tasks:
            continue
        own = {key: value for key, value in settings.items() if key in names_of(kind)}
        try:
            task = kind(**own)
            towers = task.towers(loaded, pair_of(loaded, pair))
            config = data if isinstance(data, DataConfig) else data.config
            read = task.towers_read(towers, config.towers)
            known[read] = known[read] if read in known else _listed(loaded, data, read)
            reason = _unsuitable(name, known[read].records, settings)
            if reason is None:
                known[read] = opened_for(task, loaded, known[read], towers, split)
                done.results[name] = evaluate(loaded, known[read], task, pair=pair, **common)
            else:
                done.skipped[name] = reason
        except (UserError, BadSample) as error:
            done.skipped[name] = str(error)
    if not done.results:
        listed = "; ".join(f"{task}: {reason}" for task, reason in done.skipped.items())
        raise UserError(f"--task all: the data allow no task: {listed}")
    return done


def _listed(model: Aligner, data: DataConfig | Dataset, towers: Sequence[str]) -> Dataset:
    """The data with their records listed, and no sample decoded."""
    if isinstance(data, Dataset) and {tower: model.modalities[tower] for tower in towers} == data.modalities:
        return data
    config = data if isinstance(data, DataConfig) else data.config
    if any(tower not in config.towers for tower in towers):
        return opened(model, config, towers, "all")  # raises the error that names the column
    return Dataset.open(config, {tower: model.modalities[tower] for tower in towers}, splits=[])


def _unsuitable(task: str, records: Sequence[Record], settings: Mapping[str, Any]) -> str | None:
    """Why a task has nothing to measure on these records; None if it has."""
    labels = max((len(record.labels) for record in records), default=0)
    if task in ("zero-shot", "multi-label", "few-shot") and not labels:
        return "no record has a label; name the column with --data.columns.label"
    if task == "multi-label" and labels == 1:
        return "no record has several labels; zero-shot evaluates one label per record"
    if task == "regression" and not (settings.get("target") and settings.get("prompts")):
        return "needs --target NAME, and --prompts FILE with values and templates"
    if task == "probe" and not labels and not settings.get("target"):
        return "no record has a label, and no number is named with --target"
    return None
