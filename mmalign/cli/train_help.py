"""`mmalign train RECIPE --help`: the keys of a recipe as flags, with the recipe's values; Lightning's on demand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmalign import recipes
from mmalign.cli.help import flatten, show_help
from mmalign.configuration.arguments import Argument, arguments_of
from mmalign.data.config import DataConfig
from mmalign.safe_io.safe_yaml import read_yaml
from mmalign.training.build import ModelConfig
from mmalign.training.settings.run_config import RunConfig

DATA = ("source", "manifest", "files", "columns", "validation", "positives", "batch_size", "workers")
"""Keys of `data` that `--help` prints; the others stand in `--help all`."""

PARTS = ("codebook", "gaussian", "mixup", "guide", "cca_init", "whitening_init")
"""Keys of `model` that `--help` prints as one line; their fields stand in `--help all`."""

TRAINER = [
    Argument("max_epochs", int | None, None, "Number of epochs."),
    Argument("max_steps", int, -1, "Number of optimiser steps, if that comes first; -1 = no limit."),
    Argument("accelerator", str, "auto", "cpu, gpu or auto."),
    Argument("devices", int | str, "auto", "Number of processors or GPUs."),
    Argument("precision", str | None, None, "32-true, bf16-mixed or 16-mixed."),
    Argument("accumulate_grad_batches", int, 1, "Batches per optimiser step."),
    Argument("gradient_clip_val", float | None, None, "Largest norm of the gradient."),
    Argument("log_every_n_steps", int | None, None, "Optimiser steps between log entries."),
]
"""Keys of Lightning's trainer that `--help` prints without loading Lightning."""

SEED = Argument("seed_everything", int, 0, "Seed of the weights, the order and the augmentation.")
PRINT_CONFIG = Argument("print_config", bool, False, "Print the recipe with all overrides, and exit.")


def show_train_help(recipe: str, *, whole: bool) -> None:
    """Print the flags of `mmalign train RECIPE`.

    Args:
        recipe: Name or path of the recipe.
        whole: Print every flag, those of Lightning's trainer included, with whole descriptions.
    """
    content = read_yaml(recipes.find(recipe), f"recipe {recipe}")
    run = [*arguments_of(RunConfig).values(), SEED, PRINT_CONFIG]
    data = [one for name, one in arguments_of(DataConfig).items() if whole or name in DATA]
    trainer = TRAINER
    if whole:
        from pytorch_lightning import Trainer

        trainer = [*arguments_of(Trainer).values()]
    sections = {
        "run": flatten("", run),
        "model": flatten("model", arguments_of(ModelConfig).values(), closed=() if whole else PARTS),
        "data": flatten("data", data),
        "trainer (Lightning)": flatten("trainer", trainer),
    }
    filled = {title: [_filled(flag, content) for flag in flags] for title, flags in sections.items()}
    about = "Train by a recipe; defaults are those of the recipe. Encoders' arguments: mmalign list image.convnet."
    more = "" if whole else f"`mmalign train {recipe} --help all` prints every flag, also those of Lightning's trainer."
    show_help(f"train {recipe} [flags]", about, filled, whole=whole, more=more)


def _filled(flag: Argument, content: Mapping[str, Any]) -> Argument:
    """The flag with the recipe's value as its default."""
    value: Any = content
    for part in flag.name.removeprefix("--").split("."):
        if not isinstance(value, Mapping) or part not in value:
            return flag
        value = value[part]
    return replace(flag, default=value)
