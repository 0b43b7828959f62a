"""Ctrl-C stops a run after the current step, and it resumes exactly; settings that Lightning refuses."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import mmalign
from mmalign import UserError
from mmalign.cli import main
from tests.training.small_run import SMALL


class SendSignals(pl.Callback):
    """Sends SIGINT to this process at the start of one step, or twice."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def train(out: Path, *callbacks: pl.Callback, **settings: Any) -> mmalign.Run:
    return mmalign.train(
        "image-text/demo", {**SMALL, "trainer.max_epochs": 2, **settings}, out=out, callbacks=callbacks
    )


def test_an_interrupted_run_ends_at_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"stopped after step 2, which is saved in .*last.ckpt; go on with: mmalign"):
        train(tmp_path / "run", SendSignals(1))
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(last, weights_only=True)["global_step"] == 2
    resumed = mmalign.train("", out=tmp_path / "run", resume=True)
    unbroken = train(tmp_path / "unbroken")
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(UserError, match="stopped; no checkpoint was written yet; start it again with --overwrite"):
        train(tmp_path / "run", SendSignals(1, times=2))
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(UserError, match=r"stopped; the last checkpoint is .*last.ckpt; go on with: mmalign train"):
        train(tmp_path / "later", SendSignals(2, times=2), checkpoint_every=1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trainer.devices", "0"], "--trainer: `Trainer(devices='0')` value is not a valid input"),
        (["--trainer.strategy", "nope"], "--trainer: You selected an invalid strategy name"),
        (["--trainer.callbacks", "LearningRateFinder"], "compare learning rates by short runs"),
    ],
)
def test_errors_of_lightning_are_one_line(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "image-text/demo", *flags, "--out", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_no_gpu_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "image-text/demo", "--trainer.accelerator", "gpu", "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert message == "mmalign train: --trainer: no GPU was found; use --trainer.accelerator cpu, or auto\n"


def test_wandb_without_a_key_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["train", "image-text/demo", "--loggers", "[wandb]", "--out", "run"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--loggers [wandb]: No API key configured" in message
    assert "WANDB_MODE=offline" in message


def test_a_line_has_the_mean_loss_of_its_epoch_and_the_learning_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(out, **{"trainer.log_every_n_steps": 1, "trainer.max_epochs": 1, "model.optimizer.lr": 0.5})
    lines = (out / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    rates = [float(row["train/lr"]) for row in rows if row["train/lr"]]
    mean = next(float(row["train/epoch_loss"]) for row in rows if row["train/epoch_loss"])
    printed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1/1"))
    assert f"  loss {mean:.4g}  " in printed.replace("epoch 1/1", "")
    assert min(losses) < mean < max(losses)
    assert f"lr {rates[-1]:.4g}" in printed
    assert 0 < min(rates) < max(rates) <= 0.5


def test_a_run_of_few_steps_an_epoch_logs_every_epoch(tmp_path: Path) -> None:
    run = train(tmp_path / "run", **{"trainer.log_every_n_steps": 50})
    assert [("train/loss" in epoch, "train/lr" in epoch) for epoch in run.metrics] == [(True, True)] * 2
