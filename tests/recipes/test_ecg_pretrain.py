"""The recipe of ECG alone trains as it stands, and ecg-text goes on from its encoder."""

import csv
import json
from pathlib import Path

import pytest
import torch

import mmalign
from mmalign.errors import UserError
from mmalign.training.run import train

HEARTS = ["--data.source=hearts", "--data.options={train: 24, validation: 8, test: 0}", "--data.batch_size=8"]
SMALL = {
    "resnet": ["--model.towers.ecg.args.width=4"],
    "patches": [
        "--model.towers.ecg.encoder=patches",
        "--model.towers.ecg.args={width: 8, depth: 1, heads: 2, dropout: 0.1}",
    ],
}


@pytest.fixture(scope="module", params=list(SMALL))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param)
    brief = ["--model.dim=8", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", f"--out={out}"]
    train("ecg/pretrain", [*HEARTS, "--data.columns={ecg: ecg}", *SMALL[request.param], *brief])
    return request.param, out


def test_training_logs_loss_and_feature_std(run: tuple[str, Path]) -> None:
    _, out = run
    with next((out / "logs").rglob("metrics.csv")).open() as stream:
        rows = list(csv.DictReader(stream))
    logged = {name for row in rows for name, value in row.items() if value}
    assert {
        "train/ecg_ecg/loss",
        "train/ecg_ecg_views/feature_std",
        "train/ecg_ecg_views/prediction_cosine",
        "val/loss",
    } <= logged
    assert not any("hit@1" in name for name in logged)  # of a tower with itself it says nothing
    model = mmalign.load(out)
    assert set(model.encoders) == {"ecg"}


def test_ecg_text_can_start_from_it(run: tuple[str, Path], tmp_path: Path) -> None:
    encoder, out = run
    from_it = [f"--model.towers.ecg.encoder={encoder}", f"--model.towers.ecg.weights={out}", "--model.dim=8"]
    still = ["--model.optimizer.lr=1e-12", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    train("ecg-text/clip", [*HEARTS, *from_it, *still, f"--out={tmp_path}"])
    model, former = mmalign.load(tmp_path), mmalign.load(out)
    assert model.encoders["ecg"].config() == former.encoders["ecg"].config()
    assert model.transforms["ecg"].config() == former.transforms["ecg"].config()
    for name, value in former.encoders["ecg"].state_dict().items():
        torch.testing.assert_close(model.encoders["ecg"].state_dict()[name], value, rtol=0, atol=1e-6)
    command = json.loads((tmp_path / "bundle" / "config.json").read_text())["provenance"]["command"]
    assert str(out) not in command  # folders of this machine stay here
    assert out.name in command


def test_another_encoder_is_refused_by_name(run: tuple[str, Path], tmp_path: Path) -> None:
    encoder, out = run
    with pytest.raises(UserError, match=f"expected weights of the encoder 'features', got those of '{encoder}'"):
        train("ecg-text/clip", [*HEARTS, f"--model.towers.ecg.weights={out}", f"--out={tmp_path}"])
