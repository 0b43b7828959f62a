"""`mmalign train`: a recipe with overrides, run by Lightning, written as a run folder with a bundle."""

import logging
import shlex
import signal
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytorch_lightning as pl
import torch

from mmalign.bundles import bundle
from mmalign.data.contents import contents
from mmalign.data.dataset import Dataset
from mmalign.data.truncation import warn_truncated
from mmalign.distributed import is_first
from mmalign.errors import UserError
from mmalign.objectives.pairs.several_items import check_draw
from mmalign.objectives.pairs.two_views import check_views
from mmalign.run_folder import settings_hash
from mmalign.safe_io.safe_writing import locked, replaced
from mmalign.training.build import build_model, chunks_of, early_transforms
from mmalign.training.checkpoints.best import restore_best
from mmalign.training.checkpoints.checkpoint_files import PREVIOUS
from mmalign.training.checkpoints.interrupt import StopOnInterrupt, stopped_at_once
from mmalign.training.data_module import TrainingData
from mmalign.training.guide import Guidance
from mmalign.training.matmul import matmul_precision
from mmalign.training.module import AlignmentModule
from mmalign.training.settings.command_line import without_folders
from mmalign.training.settings.parsing import TrainCLI, parse, trainer_errors
from mmalign.version import __version__

_LOG = logging.getLogger("mmalign")

FEW_VALIDATION = 5
"""Held-out rows below which validation figures are noted to say little: one row is always found."""


def train(recipe: str, arguments: list[str], *, callbacks: Sequence[pl.Callback] = ()) -> Path:
    """Train a model and write the run folder: config.yaml, logs, checkpoints, rejected.jsonl, bundle.

    Args:
        recipe: Name or path, see `mmalign.recipes.find`.
        arguments: Overrides as on the command line.
        callbacks: Lightning callbacks, in addition to those of the recipe.

    Returns:
        The run folder.
    """
    _quieten()
    cli = parse(recipe, arguments, callbacks)
    out = cli.out
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / ".lock", f"the run folder {out}") if is_first() else nullcontext():
        return _train(cli, arguments)


def _train(cli: TrainCLI, arguments: list[str]) -> Path:
    recipe, out, data_config, config, trainer = cli.recipe, cli.out, cli.data_config, cli.model_config, cli.trainer
    # Before all data are read.
    check_draw(config.pairs, data_config.draw, config.towers, guided=config.guide is not None)
    check_views(config.pairs, data_config.views, config.towers)
    transforms = early_transforms(config)
    continued = data_config.stream and cli.config.resume  # rejected.jsonl then has the records to skip without decoding
    data = Dataset.open(
        data_config, config.modalities, out=None if continued else out, transforms=transforms, training=True
    )
    model = build_model(config, data)
    read = [data.split("train"), data.split("validation")]
    truncated = warn_truncated(read, model.transforms) if trainer.is_global_zero else {}
    loaders = TrainingData(data, model.transforms, chunks_of(model), rejected=out / "rejected.jsonl")
    guidance = None if config.guide is None else Guidance.of(config.guide, model, data)
    module = AlignmentModule(model, config.optimizer, config.mixup, guidance)
    if trainer.is_global_zero:
        # skip_unset: a null that overrides a default must be found again by --resume.
        with replaced(out / "config.yaml") as file:
            cli.parser.save(cli.config, str(file), overwrite=True, skip_validation=True, skip_unset=False)
    count = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    rows = {split: len(data.split(split)) for split in ("train", "validation", "test")} | {"train": loaders.rows}
    held = rows["validation"]
    _say(trainer, f"{recipe}: {rows['train']} training rows, {held} held out, {count:,} weights to train")
    if 0 < held < FEW_VALIDATION:
        _say(trainer, f"only {held} held out: val/loss and val/*hit@1 say little; more with a larger --data.validation")
    if (cli.config.keep == "best" or cli.config.patience) and not held:
        raise UserError("--keep best and --patience compare epochs by validation rows: set --data.validation above 0")
    if trainer.is_global_zero and not cli.config.resume:
        cli.last.with_name(PREVIOUS).unlink(missing_ok=True)
        cli.last.unlink(missing_ok=True)  # or a run killed before its first checkpoint would resume from an earlier one
    steps = max(1, rows["train"] // loaders.rows_per_step)  # an epoch's, without a last batch that is not full
    trainer.log_every_n_steps = min(trainer.log_every_n_steps, steps)  # type: ignore[attr-defined]
    if loaders.rows_per_step == 1 and len(model.towers) > 1:
        _LOG.warning(
            "a batch of one record has no negatives: raise --data.batch_size, or contrastive losses are constant"
        )
    _fit(cli, module, loaders)
    if trainer.is_global_zero:
        provenance = {
            "recipe": without_folders([recipe])[0],
            "command": shlex.join(["mmalign", "train", *without_folders([recipe, *arguments])]),
            "seed": cli.config.seed_everything,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "source": data_config.source,
            "data": data.fingerprint(),
            "contents": contents(data),
            "rows": rows,
            "rejected": len(data.rejected),
            "incomplete": len(data.incomplete),
            "truncated": truncated,
            "split": {key: cli.config.data[key] for key in ("validation", "test", "split_seed", "positives")},
            "mmalign": __version__,
        }
        statements = {"licence": data_config.licence, "citation": data_config.citation}
        provenance |= {name: text for name, text in statements.items() if text}
        provenance |= {} if guidance is None else {"guide": guidance.bundle}
        provenance["settings"] = settings_hash(out)
        best = restore_best(trainer, module)
        if best:
            provenance["selected"] = best
            _say(trainer, f"kept the weights of epoch {best['epoch']}: {best['monitor']} {best['value']:.4g}")
        with torch.no_grad():
            model.objective.after_step()  # averaged and restored constants, too, are in their range
        bundle.save(model, out / "bundle", provenance=provenance)
        task = "retrieval" if len(model.towers) > 1 else "probe"
        _say(trainer, f"saved {out / 'bundle'}; next: mmalign evaluate {out} --task {task}")
        _say(trainer, f"a report with curves, results and samples: mmalign report {out} -o report.html")
        _say(trainer, f'in Python: import mmalign; model = mmalign.load("{out}"); model.encode(...)')
    return out


def _fit(cli: TrainCLI, module: AlignmentModule, loaders: TrainingData) -> None:
    """Train; what Lightning refuses, and Ctrl-C, are errors for the user."""
    cli.trainer.callbacks.insert(0, StopOnInterrupt(cli.last))  # type: ignore[attr-defined]
    handler = signal.getsignal(signal.SIGINT)
    checkpoint = str(cli.last) if cli.config.resume else None
    try:
        with trainer_errors(), matmul_precision(cli.config.matmul_precision, cli.trainer.strategy.root_device):
            cli.trainer.fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as error:  # Lightning's answer to KeyboardInterrupt
        raise stopped_at_once(cli.last) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # `StopOnInterrupt` took it, and Lightning may leave it ignored


def _say(trainer: pl.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        print(line, flush=True)


def _quieten() -> None:
    # Advice that a user cannot act on, or has decided: workers, devices, log intervals.
    for text in (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*GPU available but.*",
        ".*across ranks is zero.*",
        ".*in eval mode at the start of training.*",
        ".*Grad strides do not match bucket view strides.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The dirpath has changed from.*",  # a run folder that was moved
        ".*your dataloader is not resumable.*",  # it is: `ExactResume`
    ):
        warnings.filterwarnings("ignore", message=text)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
