"""Ctrl-C in a training run: it stops after the current step, with a checkpoint of that step."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from mmalign.errors import UserError


class Interrupted(UserError):
    """The run was stopped by the user; the message says what was saved and how to go on."""


class StopOnInterrupt(pl.Callback):
    """Stops after the current step when the process receives SIGINT, and saves a checkpoint from which it resumes.

    A second SIGINT stops at once, without another checkpoint. With several processes, which are at different steps when
    the signal arrives, the first one does so.

    Args:
        last: The checkpoint that `--resume` reads.
    """

    def __init__(self, last: Path) -> None:
        self.last, self._asked = last, False

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take over SIGINT, which only the main thread can; the caller gives it back."""
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nstopping after this step; press Ctrl-C again to stop at once", flush=True)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Save and stop, if asked to."""
        if self._asked:
            trainer.save_checkpoint(self.last)
            raise Interrupted(
                f"stopped after step {trainer.global_step}, which is saved in {self.last}; "
                f"go on with: mmalign train --resume --out {self.last.parent.parent}"
            )


def stopped_at_once(last: Path) -> Interrupted:
    """The error of a run that was stopped in the middle of a step."""
    if last.is_file():
        out = last.parent.parent
        how = f"the last checkpoint is {last}; go on with: mmalign train --resume --out {out}"
    else:
        how = "no checkpoint was written yet; start it again with --overwrite"
    return Interrupted(f"stopped; {how}")
