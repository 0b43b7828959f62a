"""What an experiment of `ideas.py` is, and what several of them share: training with a clock, cached figures."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from figures import Scores

Figures = dict[str, Any]
"""`outcomes`: score -> one number a held-out item; `clusters` (optional): items that are drawn together, an integer
each; `step_s` (optional): processor seconds of a training step."""


@dataclass(frozen=True)
class Idea:
    """One experiment: rows that differ in one option, measured on the same held-out items.

    Args:
        title: Data, number of training and held-out items, and what is trained.
        rows: Name -> settings, whatever `run` takes. The first is the plain recipe.
        scores: Names of the scores that are printed; the difference is that of the first.
        run: Settings, seed and an empty folder -> `Figures`.
        against: Row -> the row it is compared with, where that is not the first.
        seeded: False where nothing is drawn: one run of each row.
    """

    title: str
    rows: Mapping[str, Any]
    scores: Sequence[str]
    run: Callable[[Any, int, Path], Figures]
    against: Mapping[str, str] = field(default_factory=dict)
    seeded: bool = True


class StepClock(pl.Callback):
    """Processor seconds of each training step, which other work on the machine disturbs little."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self._since = time.process_time()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds.append(time.process_time() - self._since)


def train(recipe: str, flags: Sequence[str], seed: int, folder: Path) -> float:
    """Train one model into `folder`; the median processor seconds of a step (0 without a step)."""
    from mmalign.training.run import train as train_recipe

    clock = StepClock()
    fixed = [f"--seed_everything={seed}", "--trainer.limit_val_batches=0", "--overwrite", f"--out={folder}"]
    train_recipe(recipe, [*flags, *fixed], callbacks=[clock])
    return statistics.median(clock.seconds[1:]) if len(clock.seconds) > 1 else 0.0


def figures_of(idea: Idea, name: str, row: str, seed: int, out: Path) -> Figures:
    """The figures of a run, read where they are there already."""
    folder = out / name / f"{row.replace(' ', '_').replace('/', '-')}-{seed}"
    file = folder / "figures.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(idea.run(idea.rows[row], seed, folder)) + "\n")
    figures: Figures = json.loads(file.read_text())
    return figures


def scores_of(figures: Figures) -> Scores:
    """The outcomes, a number an item."""
    outcomes = {name: np.asarray(values, float) for name, values in figures["outcomes"].items()}
    count = len(next(iter(outcomes.values())))
    return Scores(outcomes, np.asarray(figures.get("clusters", np.arange(count))))
