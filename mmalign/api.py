"""`mmalign.train`, `Run` and `mmalign.check`: training and the check of the data by one call each."""

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmalign import registry
from mmalign.bundles import bundle
from mmalign.configuration.keys import leaves
from mmalign.data.checking import CheckReport, check_samples
from mmalign.data.config import DataConfig
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.run_folder import data_settings
from mmalign.towers import TowerConfig, modality_of

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from mmalign.evaluation.report.result import EvalResult
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

    def evaluate(self, task: "str | Task" = "retrieval", **settings: Any) -> "EvalResult":
        """Evaluate the trained model on the data of this run, as `mmalign.evaluate` does.

        Args:
            task: Name of a task, or a task with its settings.
            settings: Keyword arguments of `mmalign.evaluate`, such as `split="test"`.

        Raises:
            UserError: config.yaml has a data key that this version of mmalign does not have.
        """
        from mmalign.evaluation.run_task import evaluate

        data = data_settings(self.folder)
        if data is None:
            raise UserError(f"{self.folder / 'config.yaml'}: expected the configuration of a run, with the key data")
        return evaluate(self.model, DataConfig(**data), task, **settings)


def train(
    recipe: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    callbacks: Sequence["Callback"] = (),
    objectives: Mapping[str, type["Objective"]] | None = None,
) -> Run:
    """Train a model by a recipe; the same as `mmalign train` with the same overrides.

    Args:
        recipe: Name of a recipe, such as `image-text/demo`, or path of a YAML file.
        overrides: Keys of the recipe and their values, with dots or nested: `{"model.optimizer.lr": 1e-3}`; or flags
            as on the command line: `["--model.optimizer.lr", "1e-3"]`.
        out: Run folder; default: runs/latest.
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
        ...     last_epoch = run.metrics[-1]
        ...     print(lr, last_epoch["val/loss"])
    """
    from mmalign.training.run import train as run_training

    for name, kind in (objectives or {}).items():
        registry.register("objectives", name, kind)
    arguments = _flags(overrides) if isinstance(overrides, Mapping) else [*overrides]
    arguments += [*[f"--out={out}"] * (out is not None), *["--overwrite"] * overwrite, *["--resume"] * resume]
    return Run(run_training(str(recipe), arguments, callbacks=[*callbacks, *registry.callbacks()]))


def check(
    data: DataConfig,
    *,
    towers: Mapping[str, str] | None = None,
    reject_warnings: Collection[str] = (),
    sheet: str | Path | None = None,
) -> CheckReport:
    """Read every record of a data set and decode every sample, as `mmalign check` does.

    Args:
        data: The configuration of the data.
        towers: Tower -> modality, where the names differ: `{"left": "image"}`.
        reject_warnings: Towers that reject samples with a data-quality warning.
        sheet: Draw sample records to this file (PNG).

    Returns:
        Unusable records, duplicates and leakage between splits; `show()` prints them, `to_json()` returns them.

    Raises:
        UserError: a tower has no modality, the source cannot be opened, or a column is missing.

    Example:
        >>> check(DataConfig("digits", validation=0.2)).splits
        {'train': 1438, 'validation': 359}
    """
    known = registry.names("modalities")
    modalities = {}
    for tower in data.towers:
        name = (towers or {}).get(tower, tower)
        if name not in known:
            raise UserError(
                f"no modality for {tower!r}: name it with --towers.{tower} NAME{registry.missing_modality(name, known)}"
            )
        modalities[tower] = modality_of(tower, TowerConfig(modality=name, reject_warnings=tower in reject_warnings))
    return check_samples(data, modalities, sheet=None if sheet is None else Path(sheet))


def _flags(overrides: Mapping[str, Any]) -> list[str]:
    for name in ("out", "overwrite", "resume"):
        if name in overrides:
            raise UserError(f"train: {name} is an argument of train, not a key of the recipe: train(..., {name}=...)")
    return [f"--{key}={_text(value)}" for key, value in leaves(overrides)]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
