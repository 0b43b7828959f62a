"""The LightningModule: an Aligner, its objectives and an optimiser. About data it knows that batches come."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmalign.errors import UserError
from mmalign.heads import CodebookConfig, GaussianConfig
from mmalign.modality import Modality
from mmalign.model import Aligner, TowerConfig, fit_transforms, modality_of
from mmalign.objectives.gradient_norms import GradientNorms
from mmalign.objectives.pairs import PairConfig, common_rows
from mmalign.training.cca.initialisation import CCAConfig, cca_initialise
from mmalign.training.mixup import Mixup, MixupConfig
from mmalign.training.optimizer import OptimizerConfig, build
from mmalign.training.warm_start import load_warm_start
from mmalign.types import Batch, Embedding

MAX_VALIDATION_ROWS, MAX_VALIDATION_SETS = 4096, 256
"""Held-out rows of which validation during training makes one table of scores; of sets of tokens, fewer."""


class AlignmentModule(pl.LightningModule):
    """What is trained and how.

    Args:
        towers: Name -> tower; the names are the sides that the data's columns speak of.
        pairs: Which towers are trained against each other, by which objective.
        dim: Size of the shared space.
        optimizer: AdamW, warm-up and cosine.
        codebook: The codes that all towers share, where an objective needs codes (fdt).
        gaussian: How log-variances are made, where an objective needs them (pcmepp, prolip).
        mixup: Samples of a tower that are made of two, for objectives that read soft targets (pcmepp).
        cca_init: CCA initialisation of the towers' linear layers; null = random.
    """

    def __init__(
        self,
        towers: dict[str, TowerConfig],
        pairs: list[PairConfig],
        dim: int = 256,
        optimizer: OptimizerConfig | None = None,
        codebook: CodebookConfig | None = None,
        gaussian: GaussianConfig | None = None,
        mixup: MixupConfig | None = None,
        cca_init: CCAConfig | None = None,
    ) -> None:
        super().__init__()
        self.tower_configs, self.pairs, self.dim = towers, pairs, dim
        self.optimizer_config = optimizer or OptimizerConfig()
        self.codebook_config, self.gaussian_config = codebook, gaussian
        self.mixup_config = mixup or MixupConfig()
        self.cca_config = cca_init
        self._mixup: Mixup | None = None
        self._seen, self._since = 0, time.perf_counter()
        self.aligner: Aligner

    @property
    def modalities(self) -> dict[str, Modality]:
        """Each tower's modality."""
        return {name: modality_of(name, tower) for name, tower in self.tower_configs.items()}

    def build(self, data: Any) -> None:
        """Fit the transforms on the training samples, build the model, hand the transforms to the data."""
        samples = {name: data.split("train").samples(name) for name in self.tower_configs}
        store = getattr(data, "store", None)
        former = {name: load_warm_start(name, tower) for name, tower in self.tower_configs.items() if tower.weights}
        self.tower_configs = self.tower_configs | {name: known.tower for name, known in former.items()}
        fitted = {name: known.transform for name, known in former.items()}
        transforms = fit_transforms(self.tower_configs, samples, None if store is None else store.prepare, fitted)
        self.aligner = Aligner(
            self.tower_configs, self.pairs, self.dim, transforms, self.codebook_config, self.gaussian_config
        )
        for name, known in former.items():
            known.fill(self.aligner.encoders[name])
        self.aligner.freeze(epoch=0)
        if self.mixup_config.tower:
            self._mixup = Mixup(self.mixup_config, self.aligner.modalities, self.aligner.objective)
        chunks = {name: tower.chunk for name, tower in self.tower_configs.items() if tower.chunk is not None}
        for name, chunk in chunks.items():
            self._check_chunk(name, chunk)
        data.attach(self.aligner.transforms, chunks)
        if self.cca_config is not None:
            cca_initialise(self.aligner, data, self.cca_config)

    def _check_chunk(self, name: str, chunk: int) -> None:
        if chunk < 1:
            raise UserError(f"towers.{name}.chunk: expected at least 1 row, got {chunk}")
        normed = [key for key, part in self.aligner.encoders[name].named_modules() if isinstance(part, _BatchNorm)]
        if normed and not self.tower_configs[name].freeze:
            raise UserError(
                f"towers.{name}.chunk: the encoder has batch normalisation ({normed[0]}), whose statistics would be "
                "those of a chunk and be counted twice; choose an encoder without it (vit), freeze it, or drop chunk"
            )

    def setup(self, stage: str) -> None:
        """Refuse what would train wrongly."""
        later = [name for name, tower in self.tower_configs.items() if tower.unfreeze_epoch is not None]
        if later and self.trainer.world_size > 1:
            raise UserError(
                f"towers {later} have unfreeze_epoch, which needs one process: DDP would not synchronise gradients of "
                "parameters that start frozen; train in two runs instead"
            )

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, stepped with the optimiser."""
        steps = self.trainer.estimated_stepping_batches
        optimizer, schedule = build(self.aligner, self.optimizer_config, int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Freeze and unfreeze as the towers say."""
        self.aligner.freeze(self.current_epoch)
        self._seen, self._since = 0, time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One batch: the loss, and the numbers worth a line in the log."""
        self.aligner.set_progress(self.trainer.global_step / max(1, int(self.trainer.estimated_stepping_batches)))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._gradient_norms = GradientNorms() if every and self.trainer.global_step % every == 0 else None
        batch = self._mixup(batch) if self._mixup is not None else batch
        output = self.aligner.loss(batch, self._gradient_norms)
        self.log("train/loss", output.loss.detach(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        for name, value in output.terms.items():
            shown = name.endswith("/scale")
            self.log(f"train/{name}", value, prog_bar=shown, batch_size=len(batch), sync_dist=True)
        self._seen += len(batch) * self.trainer.world_size
        elapsed = time.perf_counter() - self._since
        self.log("train/samples_per_s", self._seen / elapsed, prog_bar=True, batch_size=len(batch))
        return output.loss

    def on_after_backward(self) -> None:
        """Log how strongly each term pulled at the embeddings, where there are several."""
        if self._gradient_norms is not None and len(self.pairs) > 1:
            for label, norm in self._gradient_norms.norms().items():
                self.log(f"train/{label}/gradient_norm", norm)

    def on_train_batch_end(self, *_: Any) -> None:
        """Put learnt constants back into their range (a clamp outside autograd)."""
        self.aligner.objective.after_step()

    def on_validation_epoch_start(self) -> None:
        """Start collecting."""
        self._held: dict[tuple[str, str], list[tuple[Embedding, Embedding, Tensor]]] = {}

    def validation_step(self, batch: Batch, index: int) -> None:
        """The loss on held-out rows (it depends on the batch size: compare it within one run) and their embeddings."""
        embeddings = self.aligner(batch)
        output = self.aligner.objective(embeddings, batch)
        self.log("val/loss", output.loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        for a, b in {(pair.a, pair.b) for pair in self.pairs if pair.a != pair.b}:
            held = self._held.setdefault((a, b), [])
            if sum(len(kept) for kept, _, _ in held) < MAX_VALIDATION_ROWS:
                side_a, side_b, rows = common_rows(embeddings, batch, a, b)
                held.append((side_a, side_b, batch.groups[rows]))

    def on_validation_epoch_end(self) -> None:
        """Any-hit@1 both ways among this process's first held-out rows: a glance, not a result."""
        for (a, b), parts in self._held.items():
            sets = self.aligner.objective.needs_of(a) & {"tokens", "parts"}
            rows = slice(0, MAX_VALIDATION_SETS if sets else MAX_VALIDATION_ROWS)
            sides_a, sides_b, sides_groups = zip(*parts, strict=True)
            side_a, side_b = Embedding.cat(sides_a)[rows], Embedding.cat(sides_b)[rows]
            groups = torch.cat(sides_groups)[rows]
            scores, same = self.aligner.similarity(side_a, side_b), groups[:, None] == groups[None, :]
            for name, table in ((f"{a}_to_{b}", scores), (f"{b}_to_{a}", scores.T)):
                right = table.masked_fill(~same, -torch.inf).amax(1)
                wrong = table.masked_fill(same, -torch.inf).amax(1)
                self.log(f"val/{name}_hit@1", (right > wrong).float().mean(), sync_dist=True)
        self._held = {}
