"""The moving average is that of its formula, and constants stay within their range after every step."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import mmalign
from mmalign.model import Aligner
from mmalign.training.averaging import MovingAverage
from tests.training.small_run import SMALL

DECAY = 0.9


class Steps(pl.Callback):
    """Keeps a weight and the scale after each step."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []
        self.scales: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        model: Aligner = module.aligner  # type: ignore[assignment]
        self.weights.append(weight_of(model).double().clone())
        self.scales.append(float(model.objective.objectives[0].scale.detach()))


def weight_of(model: Aligner) -> torch.Tensor:
    return next(model.encoders["text"].parameters()).detach()


def test_averaged_weights_follow_the_recursion(tmp_path: Path) -> None:
    """w = d w + (1 - d) theta from the weights after the first step on; the scale never exceeds its bound."""
    steps = Steps()
    pairs = [{"a": "image", "b": "text", "objective": "clip", "args": {"initial_scale": 10.0, "max_scale": 10.0}}]
    settings = {**SMALL, "ema": DECAY, "model.pairs": pairs, "model.optimizer.lr": 0.03, "trainer.max_epochs": 1}
    run = mmalign.train("image-text/demo", settings, out=tmp_path / "run", callbacks=[steps])
    assert len(steps.weights) > 4
    assert max(steps.scales) <= 10.0 * (1 + 1e-6), "the scale of a step, and with it each checkpoint's"
    average = steps.weights[0]
    for weight in steps.weights[1:]:
        average = DECAY * average + (1 - DECAY) * weight
    torch.testing.assert_close(weight_of(run.model).double(), average, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(average, steps.weights[-1], atol=1e-3)


def test_average_follows_the_model_to_its_device() -> None:
    module = pl.LightningModule()
    module.layer = torch.nn.Linear(2, 2)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    average = MovingAverage(decay=0.5)
    average.setup(trainer, module, "fit")
    average.on_train_start(trainer, module.to("meta"))
    assert average._average_model is not None
    assert {parameter.device.type for parameter in average._average_model.parameters()} == {"meta"}
