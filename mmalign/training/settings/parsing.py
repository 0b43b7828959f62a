"""A recipe and its overrides -> the settings of a run, its trainer and callbacks."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import LearningRateFinder, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger

from mmalign import recipes
from mmalign.configuration.arguments import Argument, arguments_of
from mmalign.configuration.keys import Section
from mmalign.configuration.overrides import check_flags, fold_open_dicts, pairs_of
from mmalign.configuration.overrides import parse as parse_flags
from mmalign.data.config import DataConfig
from mmalign.errors import UserError
from mmalign.model_description import registered_arguments
from mmalign.registry import missing_extra, nearest
from mmalign.safe_io.safe_yaml import read_yaml
from mmalign.training.averaging import MovingAverage
from mmalign.training.build import ModelConfig
from mmalign.training.callbacks import EpochLines, ExactResume
from mmalign.training.checkpoints.best import MonitoredValue, best_callbacks
from mmalign.training.checkpoints.checkpoint_files import AtomicCheckpoints
from mmalign.training.checkpoints.resume import RUN, read_checkpoint, require_same_settings
from mmalign.training.matmul import check_precision
from mmalign.training.settings.run_config import RunConfig


class TrainCLI(LightningCLI):
    """LightningCLI with mmalign's flags; it parses and builds, `train` runs."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # As LightningCLI, except for the model: its configuration is parsed, and it is built after the data are read.
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults(
            {f"trainer.{key}": value for key, value in self.trainer_defaults.items() if key != "callbacks"}
        )
        parser.add_class_arguments(ModelConfig, "model", sub_configs=True)
        parser.add_class_arguments(DataConfig, "data")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name, argument in arguments_of(RunConfig).items():
            how = {"action": "store_true"} if argument.kind is bool else {"type": argument.kind}
            parser.add_argument(f"--{name}", default=argument.default, help=argument.about, **how)
        parser.link_arguments("seed_everything", "data.seed")

    def __init__(
        self,
        *args: Any,
        recipe: str,
        checkpoint: dict[str, Any] | None,
        extra_callbacks: Sequence[pl.Callback] = (),
        **kwargs: Any,
    ) -> None:
        self.recipe, self.checkpoint, self.extra_callbacks = recipe, checkpoint, extra_callbacks
        super().__init__(*args, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parse_flags(parser, args, {})

    def before_instantiate_classes(self) -> None:
        self.out = Path(self.config.out).expanduser()
        self._resolve_paths()
        self.last = self.out / "checkpoints" / "last.ckpt"
        if not 0 <= self.config.ema < 1:
            raise UserError(f"--ema: expected a decay in [0, 1), 0 = none, got {self.config.ema:g}")
        check_precision(self.config.matmul_precision)
        finished = (self.out / "bundle" / "config.json").exists()
        self.settings = self.parser.dump(self.config, format="json", skip_validation=True)
        if self.checkpoint is not None:
            self._compare(self.checkpoint)
        if finished and not (self.config.resume or self.config.overwrite):
            raise UserError(f"{self.out} holds a finished run; choose another --out, or --overwrite, or --resume")
        if self.last.exists() and not (finished or self.config.resume or self.config.overwrite):
            raise UserError(f"{self.out} holds an unfinished run; go on with --resume, or start again with --overwrite")

    def _resolve_paths(self) -> None:
        """Make local paths of the data absolute, so that the run can be evaluated from any folder."""
        for key in ("manifest", "files", "cache"):
            value = self.config.data[key]
            if value and Path(value).expanduser().exists():
                self.config.data[key] = str(Path(value).expanduser().resolve())

    def _compare(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other settings than the checkpoint's before anything is written, and say what a change does."""
        run = checkpoint.get(RUN)
        if run is None:  # a checkpoint of before the settings were saved with it
            return
        before, now = json.loads(run["settings"]), json.loads(self.settings)
        if self.recipe and Path(run["recipe"]).name != Path(self.recipe).name:
            raise UserError(f"--resume: {self.out} was started with recipe {run['recipe']}, not {self.recipe}")
        self.recipe = run["recipe"]
        require_same_settings(before, now)
        old, new = (settings["trainer"]["max_epochs"] for settings in (before, now))
        if old != new:
            print(
                f"resumed for {new} epochs (were {old}): the learning rate follows the schedule of {new} epochs from "
                "here on",
                flush=True,
            )

    def instantiate_classes(self) -> None:
        self.config_init = self.parser.instantiate(self.config)
        self.data_config, self.model_config = self.config_init["data"], self.config_init["model"]
        settings = self._trainer_settings()
        with trainer_errors():
            self.trainer = self.instantiate_trainer(**settings)

    def _trainer_settings(self) -> dict[str, Any]:
        settings = self.config_init["trainer"]
        logger = settings["logger"]
        loggers: list[Logger] = [CSVLogger(str(self.out), name="logs")]
        loggers += logger if isinstance(logger, list) else [logger] if isinstance(logger, Logger) else []
        loggers += [_logger(name, self.out) for name in self.config.loggers]
        callbacks: list[pl.Callback] = [ExactResume(self.recipe, self.settings)]
        if self.config.ema:
            callbacks.append(MovingAverage(decay=self.config.ema))
        progress = settings["enable_progress_bar"]
        progress = sys.stderr.isatty() if progress is None else progress
        if not progress:
            callbacks.append(EpochLines())
        every = self.config.checkpoint_every
        when = {"every_n_train_steps": every} if every else {"every_n_epochs": 1, "save_on_train_epoch_end": True}
        callbacks.append(
            ModelCheckpoint(self.last.parent, filename="last", save_top_k=1, enable_version_counter=False, **when)
        )
        run = self.config
        best = best_callbacks(self.last.parent, keep=run.keep, monitor=run.monitor, patience=run.patience)
        callbacks += [MonitoredValue(run.monitor), *best] if best else []
        given_callbacks = settings["callbacks"] or []
        callbacks += given_callbacks if isinstance(given_callbacks, list) else [given_callbacks]
        if any(isinstance(callback, LearningRateFinder) for callback in callbacks):
            raise UserError(
                "--trainer.callbacks: LearningRateFinder ignores the warm-up of the schedule; compare learning "
                "rates by short runs, such as --model.optimizer.lr 1e-3 --out runs/lr1e-3"
            )
        callbacks += self.extra_callbacks
        plugins = settings["plugins"] or []
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpoints())
        return {
            "plugins": plugins,
            "logger": loggers,
            "callbacks": callbacks,
            "enable_progress_bar": progress,
            "enable_model_summary": bool(settings["enable_model_summary"]),
            "default_root_dir": str(self.out),
            "use_distributed_sampler": False,  # the data module shards by rank, uneven last batch included
            "num_sanity_val_steps": settings["num_sanity_val_steps"] or 0,
        }


@contextmanager
def trainer_errors() -> Iterator[None]:
    """What Lightning refuses about a trainer's settings, as an error for the user."""
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, ValueError) as error:
        if not isinstance(error, MisconfigurationException) and not _from_lightning(error):
            raise
        said = " ".join(str(error).split())
        if "gpu backend" in said or "CUDAAccelerator" in said:
            said = "no GPU was found; use --trainer.accelerator cpu, or auto"
        raise UserError(f"--trainer: {said}") from error


def _from_lightning(error: BaseException) -> bool:
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return module.startswith(("pytorch_lightning", "lightning_fabric"))


def parse(recipe: str, arguments: list[str], callbacks: Sequence[pl.Callback] = ()) -> TrainCLI:
    """Read a recipe and its overrides and build data, model and trainer, without training.

    A resumed run starts from its own settings instead of those of the recipe.
    """
    path, checkpoint = _resumed(arguments) or (recipes.find(recipe), None)
    content = _read_yaml(path)
    folded = fold_open_dicts(arguments, content)
    check_flags(folded, recipe_keys(), content, str(path), registered_arguments)
    return TrainCLI(
        recipe=recipe,
        checkpoint=checkpoint,
        extra_callbacks=callbacks,
        save_config_callback=None,
        run=False,
        args=["--config", str(path), *folded],
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_kwargs={
            "prog": f"mmalign train {recipe}",
            "description": f"Train by the recipe {path.name}.",
            "exit_on_error": False,
            "allow_abbrev": False,
        },
        seed_everything_default=0,
    )


def _resumed(arguments: list[str]) -> tuple[Path, dict[str, Any]] | None:
    """The settings and the last checkpoint of the run that is resumed; None if none is.

    Raises:
        UserError: there is no such run.
    """
    values = dict(pairs_of(arguments))
    if "resume" not in values or values["resume"] not in (None, "true"):
        return None
    out = Path(values.get("out") or RunConfig.out).expanduser()
    last, settings = out / "checkpoints" / "last.ckpt", out / "config.yaml"
    if not last.is_file():
        raise UserError(f"--resume: no checkpoint at {last}; start the run without --resume")
    checkpoint = read_checkpoint(last)  # first: one of another version may have had other settings
    if not settings.is_file():
        raise UserError(f"--resume: expected the settings of the run in {settings}, got no such file; start a new run")
    return settings, checkpoint


def recipe_keys() -> dict[str, Argument]:
    """The keys of a recipe and the flags of a run."""
    sections = {"model": ModelConfig, "data": DataConfig, "trainer": pl.Trainer}
    keys = arguments_of(RunConfig) | {"seed_everything": Argument("seed_everything", bool | int)}
    keys |= {name: Argument(name, Any) for name in ("config", "print_config")}
    return keys | {name: Argument(name, Section(kind)) for name, kind in sections.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    value = read_yaml(path, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a recipe with the keys model, data and trainer, got {type(value).__name__}")
    return value


def _logger(name: str, out: Path) -> Logger:
    if name == "tensorboard":
        try:
            import tensorboard  # noqa: F401 - Lightning would fall back silently
        except ModuleNotFoundError as error:
            raise missing_extra("tensorboard", "tensorboard") from error
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(str(out), name="tensorboard")
    if name == "wandb":
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise missing_extra("wandb", "wandb") from error
        from pytorch_lightning.loggers import WandbLogger

        logger = WandbLogger(save_dir=str(out), project="mmalign", name=out.name)
        try:
            _ = logger.experiment  # signs in: now, and not after the data are read
        except wandb.Error as error:
            raise UserError(
                f"--loggers [wandb]: {' '.join(str(error).split())} Or set WANDB_MODE=offline in the environment."
            ) from error
        return logger
    raise UserError(f"no logger called {name!r}{nearest(name, ['tensorboard', 'wandb'])}; CSV is always on")
