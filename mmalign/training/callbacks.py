"""Callbacks for bit-exact resumption and for progress lines without a terminal."""

import json
import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from mmalign.data.contents import contents, differences
from mmalign.errors import UserError
from mmalign.training.checkpoints.resume import OWN, RUN, count_batches, epoch_and_batch, own_part
from mmalign.training.data_module import TrainingData
from mmalign.version import CHECKPOINT_FORMAT, __version__


class ExactResume(pl.Callback):
    """Saves and restores what Lightning does not: random states, the position in the data and the data's hash.

    On the CPU the weights of a run resumed from any checkpoint equal those of an uninterrupted run to the bit. Only
    tensors and plain values are saved, so that checkpoints load with `weights_only=True`.

    The trainer's data module must be a `TrainingData`. With another batch size or number of processes, the run goes on
    at the first row that the epoch has not seen.

    Args:
        recipe: Name of the recipe, saved with each checkpoint.
        settings: All settings of the run as JSON, saved with each checkpoint.
    """

    def __init__(self, recipe: str = "", settings: str = "") -> None:
        self.recipe, self.settings = recipe, settings
        self._pending: dict[str, Any] | None = None
        self._contents = ""

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the random states, the data's hash and the position in the data; and apart from them the settings."""
        _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - third-party code may use it
        data = _training_data(trainer)
        self._contents = self._contents or json.dumps(contents(data.data))
        checkpoint[OWN] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "data": data.data.fingerprint(),
            "contents": self._contents,
            "rows_per_step": data.rows_per_step,
            "rows_seen": data.rows_seen(epoch_and_batch(checkpoint)[1]),
            "python": random.getstate(),
            "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        model: Any = module.aligner
        checkpoint[RUN] = {"recipe": self.recipe, "settings": self.settings, "model": json.dumps(model.config())}
        checkpoint[RUN] |= {
            "transforms": {tower: json.dumps(one.config()) for tower, one in model.transforms.items()},
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Set the data to the position of the checkpoint; random states follow at the first batch."""
        saved = own_part(checkpoint)
        data = _training_data(trainer)
        now = data.data.fingerprint()
        if saved["data"] != now:
            found = differences(json.loads(saved["contents"]), contents(data.data)) if "contents" in saved else []
            raise UserError(
                f"the data has changed since the checkpoint: {', '.join(found) or f'its hash is {now}'}; "
                "resume with the same manifest and files, or start a new run"
            )
        epoch, batch = epoch_and_batch(checkpoint)
        before, row = saved.get("rows_per_step", data.rows_per_step), saved.get("rows_seen", batch * data.rows_per_step)
        row = row if batch else 0
        if before != data.rows_per_step:
            self._go_on_with_other_steps(trainer, module, checkpoint, (epoch, row), before)
        data.resume(epoch, row)
        self._pending = saved

    def _go_on_with_other_steps(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        checkpoint: dict[str, Any],
        position: tuple[int, int],
        before: int,
    ) -> None:
        """Steps have another number of rows than before: set the counts of batches and the learning rate's schedule."""
        data, (epoch, row) = _training_data(trainer), position
        config = data.data.config
        if (config.hard_negatives is not None or config.neighbours is not None) and row:
            raise UserError(
                f"--resume: {before} rows a step were trained, asked for {data.rows_per_step}; with hard negatives the "
                "order depends on it: resume with the same batch size and number of processes"
            )
        if row:
            count_batches(checkpoint, data.batches_before(row))
        if trainer.max_epochs and trainer.max_epochs > 0 and trainer.max_steps < 0:
            rows = len(data.data.split("train"))
            done = (epoch + row / max(1, rows)) / trainer.max_epochs
            module.resume_schedule(checkpoint["global_step"], done)  # type: ignore[operator]
        if trainer.is_global_zero:
            print(
                f"resumed with {data.rows_per_step} rows a step (were {before}): "
                f"epoch {epoch + 1} continues at row {row}",
                flush=True,
            )

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Restore the random states: last, because building loaders and validation also draw numbers."""
        if self._pending is None:
            return
        saved, self._pending = self._pending, None
        random.setstate(_tuples(saved["python"]))
        keys, position, has_gauss, cached = saved["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
        torch.set_rng_state(saved["torch"].cpu())
        if len(saved["cuda"]) == torch.cuda.device_count() > 0:  # of another number of GPUs, each goes on as it started
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])


class EpochLines(pl.Callback):
    """Prints one line per epoch where no progress bar is shown."""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Print the epoch's mean loss and last logged values (after validation)."""
        if not trainer.is_global_zero:
            return
        values = {name.removeprefix("train/"): float(value) for name, value in trainer.callback_metrics.items()}
        values["loss"] = values.pop("epoch_loss", values.get("loss", float("nan")))
        shown = []
        for name, value in values.items():
            if (
                name in {"loss", "lr", "samples_per_s", "val/loss"}
                or name.endswith(("/scale", "/feature_std"))
                or "hit@1" in name
            ):
                shown.append(f"{name} {value:.4g}")
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  " + "  ".join(shown), flush=True)


def _training_data(trainer: pl.Trainer) -> TrainingData:
    data: TrainingData = trainer.datamodule  # type: ignore[attr-defined]
    return data


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
