"""Checkpoints on disk: written beside their target and renamed, the one before is kept, damage is found."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from mmalign.errors import UserError, first_line
from mmalign.safe_io.safe_writing import replaced

PREVIOUS = "previous.ckpt"
"""Name of the checkpoint before `last.ckpt`, in the same folder."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint to a file beside its target, flushes and renames it; `last.ckpt` becomes `previous.ckpt`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; a kill at any point leaves the one before.

        Raises:
            UserError: it cannot be written, such as on a full disk; the one before stays.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as partial:
            try:
                with partial.open("wb") as file:  # of a path, torch writes the name into the file
                    torch.save(checkpoint, file)
            except (OSError, RuntimeError) as error:  # torch's writer hides the error of the disk
                cause = error if isinstance(error, OSError) else error.__context__ or error
                raise UserError(
                    f"{path}: cannot write the checkpoint ({first_line(cause)}); the one before is kept: free space on "
                    "the disk, and go on with --resume"
                ) from error
            if path.name == "last.ckpt" and path.exists():
                with replaced(path.with_name(PREVIOUS)) as link:
                    os.link(path, link)


def demand_undamaged(path: Path) -> None:
    """Compare a checkpoint's content with the checksums in it.

    Raises:
        UserError: they differ, or the file is no checkpoint; the message names the one before, if there is one.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception:  # torch raises arbitrary exceptions for damaged archives
        damaged = path.name
    if damaged:
        before = path.with_name(PREVIOUS)
        way = f"the one before it is {before}: copy it to {path}" if before.is_file() else "start the run again"
        raise UserError(f"{path}: expected a checkpoint, got a damaged or another file; {way}")
