"""Callbacks for bit-exact resumption and for progress lines without a terminal."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from mmalign.errors import UserError
from mmalign.training.data_module import TrainingData
from mmalign.version import CHECKPOINT_FORMAT, __version__


class ExactResume(pl.Callback):
    """Saves and restores what Lightning does not: random states, the position in the data and the data's hash.

    On the CPU the weights of a run resumed from any checkpoint equal those of an uninterrupted run to the bit. Only
    tensors and plain values are saved, so that checkpoints load with `weights_only=True`.

    The trainer's data module must be a `TrainingData`.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the random states and the data's hash."""
        _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - third-party code may use it
        checkpoint["mmalign"] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "data": _training_data(trainer).data.fingerprint(),
            "python": random.getstate(),
            "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set the data to the position of the checkpoint; random states follow at the first batch."""
        saved = _own_part(checkpoint)
        data = _training_data(trainer)
        now = data.data.fingerprint()
        if saved["data"] != now:
            raise UserError(
                f"the data has changed since the checkpoint (hash {saved['data']}, now {now}); "
                "resume with the same manifest and files, or start a new run"
            )
        loop = checkpoint["loops"]["fit_loop"]
        epoch = loop["epoch_progress"]["current"]["processed"]
        progress = loop["epoch_loop.batch_progress"]
        batch = progress["current"]["processed"]
        ended = progress["is_last_batch"] or loop["epoch_progress"]["current"]["started"] == epoch
        # A checkpoint saved by validation or at the end of an epoch already counts that epoch.
        if ended:
            epoch, batch = epoch + (loop["epoch_progress"]["current"]["started"] > epoch), 0
        data.resume(epoch, batch)
        self._pending = saved

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Restore the random states: last, because building loaders and validation also draw numbers."""
        if self._pending is None:
            return
        saved, self._pending = self._pending, None
        random.setstate(_tuples(saved["python"]))
        keys, position, has_gauss, cached = saved["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
        torch.set_rng_state(saved["torch"].cpu())
        if saved["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])


class EpochLines(pl.Callback):
    """Prints one line per epoch where no progress bar is shown."""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Print the epoch's last logged values (after validation)."""
        if not trainer.is_global_zero:
            return
        shown = []
        for name, value in trainer.callback_metrics.items():
            short = name.removeprefix("train/")
            if (
                short in {"loss", "samples_per_s", "val/loss"}
                or short.endswith(("/scale", "/feature_std"))
                or "hit@1" in short
            ):
                shown.append(f"{short} {float(value):.4g}")
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  " + "  ".join(shown), flush=True)


def require_format(path: Path) -> None:
    """Reject a checkpoint of another format before data are read and weights are loaded.

    Raises:
        UserError: another version of mmalign, or another program, wrote it.
    """
    _own_part(torch.load(path, map_location="cpu", weights_only=True, mmap=True))


def _training_data(trainer: pl.Trainer) -> TrainingData:
    data: TrainingData = trainer.datamodule  # type: ignore[attr-defined]
    return data


def _own_part(checkpoint: dict[str, Any]) -> dict[str, Any]:
    saved: dict[str, Any] | None = checkpoint.get("mmalign")
    if saved is None:
        raise UserError("this checkpoint was not written by mmalign: it has no random states and no data hash")
    if saved.get("format") != CHECKPOINT_FORMAT:
        raise UserError(
            f"expected checkpoint format {CHECKPOINT_FORMAT}, got {saved.get('format', 1)}; it was written by mmalign "
            f"{saved.get('version', 'before checkpoints had a format')}, this is {__version__}; start a new run"
        )
    return saved


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
