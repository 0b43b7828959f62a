"""The best epoch by a logged value: its checkpoint, early stopping, and its weights at the end."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from mmalign.errors import UserError
from mmalign.registry import nearest

KEEP = ("last", "best")


def best_callbacks(folder: Path, *, keep: str, monitor: str, patience: int) -> list[pl.Callback]:
    """Callbacks that save the best epoch and stop when none is better for long.

    Args:
        folder: Folder of the checkpoints.
        keep: last or best.
        monitor: A logged value, compared after each validation.
        patience: Epochs without a better value before training stops; 0 = never.

    Raises:
        UserError: a value cannot be used.
    """
    if keep not in KEEP:
        raise UserError(f"--keep: expected last or best, got {keep!r}{nearest(keep, KEEP)}")
    if patience < 0:
        raise UserError(f"--patience: expected a number of epochs, 0 = never stop early, got {patience}")
    if monitor.startswith("train/"):
        raise UserError(f"--monitor: expected a value of validation such as val/loss, got {monitor!r}")
    settings: dict[str, Any] = {"monitor": monitor, "mode": mode_of(monitor)}
    callbacks: list[pl.Callback] = []
    if keep == "best":
        callbacks.append(
            ModelCheckpoint(folder, filename="best", save_top_k=1, enable_version_counter=False, **settings)
        )
    if patience:
        callbacks.append(EarlyStopping(patience=patience, verbose=False, **settings))
    return callbacks


def mode_of(monitor: str) -> str:
    """Whether lower or higher is better.

    Example:
        >>> mode_of("val/loss"), mode_of("val/image_to_text_hit@1")
        ('min', 'max')
    """
    return "min" if monitor.endswith("loss") else "max"


class MonitoredValue(pl.Callback):
    """Names the values that are logged, if the monitored one is not among them; Lightning would only warn.

    Args:
        monitor: The monitored value.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Check after the first validation."""
        if self.monitor not in trainer.callback_metrics:
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise UserError(f"--monitor: no value called {self.monitor!r}{nearest(self.monitor, known)}")


def restore_best(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
    """Load the weights of the best epoch into the module.

    Returns:
        `monitor`, its `value` and the `epoch` (counted from 1); empty where the last weights are kept.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            state = torch.load(callback.best_model_path, map_location="cpu", weights_only=True)
            module.load_state_dict(state["state_dict"])
            assert callback.best_model_score is not None
            value = round(float(callback.best_model_score), 6)
            return {"monitor": callback.monitor, "value": value, "epoch": state["epoch"] + 1}
    return {}
