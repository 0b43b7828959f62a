"""The best epoch is kept, training stops early, and a checkpoint becomes a bundle without its data."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

import mmalign
from mmalign import UserError
from mmalign.cli import main
from mmalign.training.checkpoints.best import mode_of
from tests.training.small_run import SMALL


class Worse(pl.Callback):
    """Spoils the encoders of every epoch after the second one."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch >= 2:
            with torch.no_grad():
                for parameter in module.aligner.encoders.parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


def train(out: Path, **settings: Any) -> mmalign.Run:
    return mmalign.train(
        "image-text/demo", {**SMALL, "trainer.max_epochs": 5, **settings}, out=out, callbacks=[Worse()]
    )


def test_the_best_epoch_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last, best = train(tmp_path / "last"), train(tmp_path / "best", keep="best")
    losses = {int(row["epoch"]): row["val/loss"] for row in best.metrics}
    epoch = min(losses, key=lambda epoch: losses[epoch])
    assert epoch == 1, "the third epoch and later ones are spoilt"
    selected = best.model.provenance["selected"]
    assert (selected["epoch"], selected["monitor"]) == (2, "val/loss")
    assert selected["value"] == pytest.approx(losses[1], abs=1e-5)
    assert f"kept the weights of epoch 2: val/loss {losses[1]:.4g}" in capsys.readouterr().out
    assert "selected" not in last.model.provenance
    weights = load_file(best.bundle / "model.safetensors")
    saved = torch.load(tmp_path / "best" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(saved[f"aligner.{name}"], value) for name, value in weights.items())
    other = load_file(last.bundle / "model.safetensors")
    assert not all(torch.equal(other[name], value) for name, value in weights.items())


def test_training_stops_when_no_epoch_is_better(tmp_path: Path) -> None:
    run = train(tmp_path / "run", patience=1, keep="best", monitor="val/image_to_text_hit@1")
    assert len(run.metrics) < 5
    assert run.model.provenance["selected"]["monitor"] == "val/image_to_text_hit@1"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": "bst"}, "--keep: expected last or best, got 'bst'"),
        ({"patience": -1}, "--patience: expected a number of epochs"),
        ({"keep": "best", "monitor": "train/loss"}, "expected a value of validation"),
        ({"keep": "best", "monitor": "val/los"}, "no value called 'val/los'; did you mean 'val/loss'"),
    ],
)
def test_an_unknown_monitor_is_an_error(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        train(tmp_path / "run", **settings)


def test_without_validation_rows_there_is_no_best(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("one,two\n" + "\n".join(f"sentence {row},text {row}" for row in range(20)))
    settings = {
        "data": {"source": "manifest", "manifest": str(table), "validation": 0.0, "batch_size": 8},
        "data.columns": {"image": "one", "text": "two"},
        "model.towers.image": {"modality": "text", "encoder": "tfidf", "args": {"width": 8}, "transform": {}},
        "keep": "best",
    }
    with pytest.raises(UserError, match=r"compare epochs by validation rows: set --data\.validation above 0"):
        mmalign.train("image-text/demo", settings, out=tmp_path / "run")


def test_losses_are_minimised_and_other_values_maximised() -> None:
    assert [mode_of(name) for name in ("val/loss", "val/a_to_b_hit@1")] == ["min", "max"]


def test_a_checkpoint_becomes_a_bundle_without_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path / "run", **{"trainer.max_epochs": 1})
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "run/checkpoints/last.ckpt", "made"]) == 0
    assert "saved made; next: mmalign evaluate made" in capsys.readouterr().out
    one, two = mmalign.load(run.bundle), mmalign.load("made")
    torch.testing.assert_close(
        one.encode("text", ["a seven"]).vector, two.encode("text", ["a seven"]).vector, rtol=0, atol=0
    )
    assert two.provenance["data"] == one.provenance["data"]
    assert two.provenance["split"] == one.provenance["split"]
    assert two.provenance["checkpoint"] == "last.ckpt"
    assert str(tmp_path) not in (tmp_path / "made" / "config.json").read_text()


def test_bundle_command_refuses_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path / "none.ckpt"), "out"]) == 2
    assert "got no such file" in capsys.readouterr().err
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert main(["bundle", str(tmp_path / "other.ckpt"), "out"]) == 2
    assert "was not written by mmalign" in capsys.readouterr().err
    (tmp_path / "text.ckpt").write_text(json.dumps({}))
    assert main(["bundle", str(tmp_path / "text.ckpt"), "out"]) == 2
    assert "text.ckpt" in capsys.readouterr().err
