"""`mmalign.train` and `mmalign.evaluate`: training and evaluation by one call each."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mmalign import bundle, registry
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.evaluation.report.result import EvalResult
from mmalign.model import Aligner

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from mmalign.evaluation.settings import Task
    from mmalign.objectives.objective import Objective


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Args:
        folder: The run folder: config.yaml, logs, checkpoints, rejected.jsonl, bundle.
    """

    folder: Path

    @property
    def bundle(self) -> Path:
        """Folder of the trained bundle, for `mmalign.load`."""
        return bundle.find(self.folder)

    @cached_property
    def model(self) -> Aligner:
        """The trained model, loaded from the bundle on first use."""
        return bundle.load(self.folder)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """Logged values, one dictionary per epoch (key `epoch`, 0-based); the last value of each name in an epoch."""
        files = sorted(self.folder.glob("logs/version_*/metrics.csv"), key=lambda file: int(file.parent.name[8:]))
        epochs: dict[int, dict[str, float]] = {}
        for file in files[-1:]:
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    values = {name: float(value) for name, value in row.items() if value}
                    epochs.setdefault(int(values["epoch"]), {}).update(values)
        return [epochs[epoch] for epoch in sorted(epochs)]

    def evaluate(self, task: "str | Task" = "retrieval", **settings: Any) -> EvalResult:
        """Evaluate the trained model on the data of this run, as `mmalign.evaluate` does.

        Args:
            task: Name of a task, or a task with its settings.
            settings: Keyword arguments of `mmalign.evaluate`, such as `split="test"`.
        """
        config = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        return evaluate(self.model, DataConfig(**config["data"]), task, **settings)


def train(
    recipe: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    out: str | Path = "runs/latest",
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Sequence["Callback"] = (),
    objectives: Mapping[str, type["Objective"]] | None = None,
) -> Run:
    """Train a model by a recipe; the same as `mmalign train` with the same overrides.

    Args:
        recipe: Name of a recipe, such as `image-text/demo`, or path of a YAML file.
        overrides: Keys of the recipe and their values, with dots or nested: `{"model.optimizer.lr": 1e-3}`.
        out: Run folder.
        overwrite: Replace a finished run in `out`.
        resume: Continue from the last checkpoint in `out`.
        callbacks: Lightning callbacks, in addition to those of the recipe.
        objectives: Name -> objective class, registered for this process only, for use in `model.pairs`.

    Returns:
        The finished run.

    Raises:
        UserError: a key or value is not valid, or the data cannot be used; the message names the nearest key.

    Example:
        >>> import mmalign
        >>> for lr in (1e-3, 3e-3, 1e-2):  # doctest: +SKIP
        ...     run = mmalign.train("image-text/demo", {"model.optimizer.lr": lr}, out=f"runs/lr{lr}")
        ...     print(lr, run.metrics[-1]["val/loss"])
    """
    from mmalign.training.run import train as run_training

    for name in ("out", "overwrite", "resume"):
        if name in (overrides or {}):
            raise UserError(f"train: {name} is an argument of train, not a key of the recipe: train(..., {name}=...)")
    for name, kind in (objectives or {}).items():
        registry.register("objectives", name, kind)
    arguments = [f"--{key}={_text(value)}" for key, value in _leaves(overrides or {})]
    arguments += [f"--out={out}", *["--overwrite"] * overwrite, *["--resume"] * resume]
    return Run(run_training(str(recipe), arguments, callbacks=callbacks))


def evaluate(
    model: Aligner | str | Path,
    data: DataConfig | Dataset,
    task: "str | Task" = "retrieval",
    *,
    pair: Sequence[str] = (),
    device: str = "cpu",
    **settings: Any,
) -> EvalResult:
    """Evaluate a model on a data set.

    Args:
        model: A model, or the path of a bundle or run.
        data: The configuration of the data, or data that are open; the samples of `split` are read here.
        task: retrieval, zero-shot, multi-label, regression, probe, few-shot or robustness; or a task with its
            settings, such as `Retrieval(gallery="corpus")`.
        pair: The two towers; default: the only pair that the model was trained on.
        device: Device to load a bundle on; a model stays on its own.
        settings: Fields of `EvalSettings` (split, batch_size, bootstrap, seed) and of the task.

    Returns:
        Scores with intervals and provenance; `show()` prints them, `to_json()` returns them.

    Raises:
        UserError: unknown task or option, a tower that the model or the data lacks, or an empty split.
    """
    from mmalign.evaluation.run_task import evaluate as run_task

    model = model if isinstance(model, Aligner) else bundle.load(model, device=device)
    return run_task(model, data, task, pair=pair_of(model, pair), **settings)


def pair_of(model: Aligner, names: Sequence[str]) -> tuple[str, str]:
    """The two towers to evaluate: those named, or the only pair that the model was trained on.

    Raises:
        UserError: the model has several pairs and none is named, or a name is not a tower.
    """
    if not names and len({(pair.a, pair.b) for pair in model.pairs}) == 1:
        return model.pairs[0].a, model.pairs[0].b
    if len(names) != 2:
        known = ", ".join(f"{pair.a} {pair.b}" for pair in model.pairs)
        raise UserError(f"--pair: expected two towers, got {list(names)}; this model was trained on: {known}")
    for name in names:
        if name not in model.encoders:
            raise UserError(f"no tower called {name!r}{registry.nearest(name, model.towers)}")
    return names[0], names[1]


def _leaves(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        full = f"{path}.{key}" if path else key
        leaves += _leaves(value, full) if isinstance(value, Mapping) and value else [(full, value)]
    return leaves


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
