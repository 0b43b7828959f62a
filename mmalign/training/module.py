"""The LightningModule: an Aligner, its objectives and an optimiser."""

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mmalign import distributed
from mmalign.errors import UserError
from mmalign.lora import layers_without_gradient
from mmalign.model import Aligner
from mmalign.objectives.pairs.gradient_norms import GradientNorms
from mmalign.training.guide import Guidance
from mmalign.training.mixup import Mixup, MixupConfig
from mmalign.training.optimizer import OptimizerConfig, build, factor_at
from mmalign.training.validation_hits import ValidationHits
from mmalign.types import Batch


class AlignmentModule(pl.LightningModule):
    """One training run of a built model; `mmalign.training.build` builds it.

    Args:
        aligner: The model with its initial weights.
        optimizer: AdamW with warm-up and cosine decay.
        mixup: Mixing of one tower's samples, for objectives with soft targets (pcmepp).
        guidance: Vectors of a frozen guide, for objectives that leave out false negatives.
    """

    def __init__(
        self,
        aligner: Aligner,
        optimizer: OptimizerConfig | None = None,
        mixup: MixupConfig | None = None,
        guidance: Guidance | None = None,
    ) -> None:
        super().__init__()
        self.aligner, self.optimizer_config = aligner, optimizer or OptimizerConfig()
        self._mixup = Mixup(mixup, aligner.modalities, aligner.objective) if mixup and mixup.tower else None
        self._guidance = guidance
        self._unchecked = set(aligner.adapted)  # towers whose adapters have not had a gradient yet
        self._seen, self._since = 0, time.perf_counter()
        self._resumed = (0, 0.0)

    def resume_schedule(self, step: int, done: float) -> None:
        """Continue the schedule of a run whose steps had another number of rows.

        Args:
            step: Optimiser steps so far.
            done: Fraction of the training that they are.
        """
        self._resumed = (step, done)

    def setup(self, stage: str) -> None:
        """Reject configurations that would train wrongly."""
        later = [name for name, tower in self.aligner.towers.items() if tower.unfreeze_epoch is not None]
        if later and self.trainer.world_size > 1:
            raise UserError(
                f"towers {later} have unfreeze_epoch, which needs one process: DDP would not synchronise gradients of "
                "parameters that start frozen; train in two runs instead"
            )

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, stepped with the optimiser."""
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = build(self.aligner, self.optimizer_config, lambda step: self._at(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _at(self, step: int, steps: int) -> tuple[float, float]:
        """A step and the number of all steps, in steps of the size that most of the training had until now.

        Steps that are taken after `resume_schedule` count for the same fraction of the training as before.
        """
        before, done = self._resumed
        if not 0 < done < 1 or not before:
            return step, steps
        total = before / done
        left = max(1.0, steps * (1 - done))  # steps of the new size that remain
        return before + (step - before) * (total - before) / left if step > before else step, total

    def on_train_epoch_start(self) -> None:
        """Freeze and unfreeze encoders as configured."""
        self.aligner.freeze(self.current_epoch)
        self._seen, self._since = 0, time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch; logs its terms."""
        step, steps = self._at(self.trainer.global_step, int(self.trainer.estimated_stepping_batches))
        self.aligner.set_progress(step / max(1, steps))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._gradient_norms = GradientNorms() if every and self.trainer.global_step % every == 0 else None
        batch = self._mixup(batch) if self._mixup is not None else batch
        batch = self._guidance(batch) if self._guidance is not None else batch
        output = self.aligner.loss(batch, self._gradient_norms)
        loss = output.loss.detach()
        self.log("train/epoch_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        self._seen += len(batch) * self.trainer.world_size
        logged = every and ((self.trainer.global_step + 1) % every == 0 or self.trainer.is_last_batch)
        if logged or not distributed.is_distributed():  # of several processes, a mean over them for each logged step
            self._log_step({"loss": loss, **output.terms}, step, steps)
        return output.loss

    def _log_step(self, values: Mapping[str, Tensor], step: float, steps: float) -> None:
        """Log the values of a step as means over all processes, of which one is taken for all of them."""
        for name, value in distributed.means(values, self.device).items():
            self.log(f"train/{name}", value, prog_bar=name == "loss" or name.endswith("/scale"))
            if name == "loss":
                self.log("train/lr", self.optimizer_config.lr * factor_at(step, steps, self.optimizer_config))
        elapsed = time.perf_counter() - self._since
        self.log("train/samples_per_s", self._seen / elapsed, prog_bar=True)

    def on_after_backward(self) -> None:
        """Log the gradient norm of each term at the embeddings, if there are several terms; check LoRA adapters."""
        for name in sorted(self._unchecked):
            self._check_adapters(name)
        self._unchecked = set()
        if self._gradient_norms is not None and len(self.aligner.pairs) > 1:
            for label, norm in self._gradient_norms.norms().items():
                self.log(f"train/{label}/gradient_norm", norm)

    def _check_adapters(self, name: str) -> None:
        unused, total = layers_without_gradient(self.aligner.encoders[name])
        if not unused or self.trainer.world_size > 1:  # of several processes, every weight has a gradient
            return
        where = f"towers.{name}.lora"
        line = f"no gradient reaches {len(unused)} of {total} adapted layers, such as {unused[0]}"
        if len(unused) == total:
            raise UserError(f"{where}: {line}; name other layers by targets")
        print(f"{where}: {line}; they stay as they are", flush=True)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step, then learnt constants are clamped to their range: before averages and checkpoints are taken."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            self.aligner.objective.after_step()

    def on_validation_epoch_start(self) -> None:
        """Start collecting."""
        self._hits = ValidationHits(self.aligner)

    def validation_step(self, batch: Batch, index: int) -> None:
        """The loss of validation rows (depends on the batch size: compare it within one run) and their embeddings."""
        embeddings = self.aligner(batch)
        output = self.aligner.objective(embeddings, batch, again=self.aligner.second_views(batch))
        self.log("val/loss", output.loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        self._hits.add(embeddings, batch)

    def on_validation_epoch_end(self) -> None:
        """Hit rate@1 in both directions among the first validation rows of all processes, for monitoring only."""
        for direction, rate in self._hits.rates().items():
            self.log(f"val/{direction}_hit@1", rate, sync_dist=True)
        del self._hits
