"""What a resumed run may change, and how a run goes on under other settings."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmalign.configuration.keys import leaves
from mmalign.errors import UserError
from mmalign.safe_io.tensor_files import load_tensors
from mmalign.training.checkpoints.checkpoint_files import demand_undamaged
from mmalign.version import CHECKPOINT_FORMAT, __version__

OWN, RUN = "mmalign", "mmalign_run"
"""Keys of a checkpoint: random states and the position in the data; the recipe and the settings."""

FREE = (
    "out", "resume", "overwrite", "loggers", "checkpoint_every", "matmul_precision",
    "data.batch_size", "data.workers", "data.cache", "data.cache_gb", "data.max_rejected",
    "data.manifest", "data.files", "data.licence", "data.citation",
    "trainer.max_epochs", "trainer.max_steps", "trainer.min_epochs", "trainer.min_steps", "trainer.max_time",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.plugins",
    "trainer.logger", "trainer.callbacks", "trainer.log_every_n_steps", "trainer.profiler", "trainer.barebones",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.enable_checkpointing",
    "trainer.check_val_every_n_epoch", "trainer.val_check_interval", "trainer.num_sanity_val_steps",
    "trainer.limit_val_batches", "trainer.default_root_dir",
)  # fmt: skip
"""Settings that a resumed run may change: where and how long it runs, not what is trained. The data are compared by
their content, wherever they are."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint that mmalign wrote, without loading its weights into memory.

    Raises:
        UserError: another version of mmalign, or another program, wrote it.
    """
    demand_undamaged(path)
    try:
        checkpoint: dict[str, Any] = load_tensors(path, mmap=True)
    except Exception as error:  # torch raises anything on damaged or hostile files
        raise UserError(f"{path}: expected a checkpoint, got a damaged or another file") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: expected a checkpoint, got a file with a {type(checkpoint).__name__}")
    own_part(checkpoint)
    return checkpoint


def own_part(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The random states, the data's hash and the position in the data.

    Raises:
        UserError: the checkpoint has none, or they have another format.
    """
    saved: dict[str, Any] | None = checkpoint.get(OWN)
    if not isinstance(saved, dict):
        raise UserError("this checkpoint was not written by mmalign: it has no random states and no data hash")
    if saved.get("format") != CHECKPOINT_FORMAT:
        raise UserError(
            f"expected checkpoint format {CHECKPOINT_FORMAT}, got {saved.get('format', 1)}; it was written by mmalign "
            f"{saved.get('version', 'before checkpoints had a format')}, this is {__version__}; start a new run"
        )
    return saved


def require_same_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a change of what is trained.

    Args:
        before: Settings of the checkpoint.
        now: Settings of the resumed run.

    Raises:
        UserError: a setting that is not in `FREE` differs; the message names all of them with both values.

    Example:
        >>> require_same_settings({"model": {"dim": 64}}, {"model": {"dim": 32}})
        Traceback (most recent call last):
        mmalign.errors.UserError: --resume: model.dim was 64, asked for 32; a resumed run keeps it: leave it out, or ...
    """
    changes = [f"{key} was {_shown(old)}, asked for {_shown(new)}" for key, old, new in _differences(before, now)]
    if changes:
        raise UserError(
            f"--resume: {'; '.join(changes)}; a resumed run keeps {'it' if len(changes) == 1 else 'them'}: leave "
            f"{'it' if len(changes) == 1 else 'them'} out, or start a new run with another --out"
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    # A key that only one has is a default of another version of a library: null, empty and absent are equal.
    old, new = ({key: None if value in ({}, []) else value for key, value in leaves(one)} for one in (before, now))
    for key in sorted(old.keys() | new.keys()):
        free = any(key == one or key.startswith(f"{one}.") for one in FREE)
        if not free and old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)


def epoch_and_batch(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """The epoch in which a run goes on, and how many batches of it are done (Lightning's counts)."""
    loop = checkpoint["loops"]["fit_loop"]
    epoch: int = loop["epoch_progress"]["current"]["processed"]
    progress = loop["epoch_loop.batch_progress"]
    started = loop["epoch_progress"]["current"]["started"]
    if progress["is_last_batch"] or started == epoch:
        # A checkpoint saved by validation or at the end of an epoch already counts that epoch.
        return epoch + (started > epoch), 0
    return epoch, progress["current"]["processed"]


def count_batches(checkpoint: dict[str, Any], batches: int) -> None:
    """Set Lightning's count of the batches that are done in the epoch, where batches have another size now."""
    current = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    change = batches - current["processed"]
    for name in current:  # of a checkpoint of the end of a batch, `completed` is one less
        current[name] += change
