"""The flags of a training run in addition to its recipe's keys; imports no Lightning, for a fast help."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmalign import registry
from mmalign.configuration.arguments import Argument, arguments_of, takes_any
from mmalign.objectives.pairs.pair_config import PairConfig
from mmalign.towers import TowerConfig, modality_of


@dataclass
class RunConfig:
    """A training run: where it writes, and whether it resumes.

    Args:
        out: Run folder: configuration, logs, checkpoints and the trained bundle.
        resume: Continue from the last checkpoint in --out.
        overwrite: Replace the run in --out.
        ema: Decay of the exponential moving average of the weights; 0 = none.
        checkpoint_every: Optimiser steps between checkpoints; 0 = one per epoch.
        keep: The weights of the bundle: last, or best by --monitor among the epochs.
        monitor: The logged value that `keep: best` and `patience` compare: the lower the better for a loss, the higher
            otherwise.
        patience: Stop after this number of epochs without a better value of --monitor; 0 = never.
        loggers: Loggers in addition to CSV, such as [tensorboard, wandb].
    """

    out: str = "runs/latest"
    resume: bool = False
    overwrite: bool = False
    ema: float = 0.0
    checkpoint_every: int = 0
    keep: str = "last"
    monitor: str = "val/loss"
    patience: int = 0
    loggers: list[str] = field(default_factory=list)


def registered_arguments(kind: type, key: str, values: Mapping[str, Any], name: str) -> Mapping[str, Argument] | None:
    """The arguments in a recipe's dictionary `args`: those of a tower's encoder or of a pair's objective.

    Args:
        kind: Dataclass with the dictionary.
        key: Key of the dictionary.
        values: Values of the dataclass.
        name: Key of the dataclass, such as a tower's name.

    Returns:
        Name -> argument; None = unknown.
    """
    if key != "args":
        return None
    if kind is PairConfig:
        factory: Any = registry.load("objectives", values.get("objective") or "clip")
        skip = 0
    elif kind is TowerConfig and not (values.get("weights") and not values.get("encoder")):
        modality = modality_of(name, TowerConfig(modality=values.get("modality") or ""))
        encoder = values.get("encoder") or next(iter(modality.encoders))
        if encoder not in modality.encoders:
            return None  # building the model names the nearest one
        factory, skip = modality.encoders[encoder], 1  # mmalign passes the transform
    else:
        return None
    return None if takes_any(factory) else dict([*arguments_of(factory).items()][skip:])
