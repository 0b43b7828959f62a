"""The flags of a training run in addition to its recipe's keys; imports no Lightning, for a fast help."""

from dataclasses import dataclass, field


@dataclass
class RunConfig:
    """A training run: where it writes, and whether it resumes.

    Args:
        out: Run folder: configuration, logs, checkpoints and the trained bundle.
        resume: Continue from the last checkpoint in --out.
        overwrite: Replace the run in --out.
        ema: Decay of the exponential moving average of the weights; 0 = none.
        checkpoint_every: Optimiser steps between checkpoints; 0 = one per epoch.
        keep: Weights to save in the bundle: those of the `last` epoch, or of the `best` epoch by --monitor.
        monitor: The logged value that `keep: best` and `patience` compare: the lower the better for a loss, the higher
            otherwise.
        patience: Stop after this number of epochs without a better value of --monitor; 0 = never.
        matmul_precision: Of float32 matrix products, as torch names it: highest, high (TF32 on a GPU) or medium; auto =
            high on a CUDA GPU, and unchanged elsewhere.
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
    matmul_precision: str = "auto"
    loggers: list[str] = field(default_factory=list)
