"""A resumed run keeps its settings: what may change, what is refused, and where it goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import mmalign
from mmalign import UserError
from mmalign.cli import main
from mmalign.training.checkpoints.resume import require_same_settings
from tests.training.small_run import SMALL


class Stop(pl.Callback):
    """Ends a run after some steps, as Ctrl-C does, and collects what was trained on."""

    def __init__(self, after: int = 10**9) -> None:
        self.after, self.rows, self.rates, self.epochs = after, [], [], []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.rows.append(batch.ids.tolist())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.epochs.append(trainer.current_epoch)
        if len(self.rows) == self.after:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Stop]:
    """Folder and settings -> a run of 1,438 rows, eight batches of 200 an epoch; stopped after the second step.

    Runs of equal settings are copies of one.
    """
    made: dict[str, tuple[Path, Stop]] = {}

    def copied(out: Path, **settings: Any) -> Stop:
        if str(settings) not in made:
            folder, stop = tmp_path_factory.mktemp("started") / "run", Stop(2)
            with pytest.raises((UserError, SystemExit, KeyboardInterrupt)):
                mmalign.train("image-text/demo", {**SMALL, **settings}, out=folder, callbacks=[stop])
            made[str(settings)] = folder, stop
        folder, stop = made[str(settings)]
        shutil.copytree(folder, out)
        return stop

    return copied


def go_on(out: Path, **settings: Any) -> Stop:
    seen = Stop()
    mmalign.train("image-text/demo", settings, out=out, resume=True, callbacks=[seen])
    return seen


def test_a_change_of_the_model_is_refused_and_nothing_is_written(tmp_path: Path, start: Callable[..., Stop]) -> None:
    out = tmp_path / "run"
    start(out)
    before = (out / "config.yaml").read_text()
    for changes, words in (
        (
            {"model.optimizer.lr": 0.5},
            r"--resume: model.optimizer.lr was 0\.\d+, asked for 0\.5; a resumed run keeps it",
        ),
        ({"model.dim": 32}, "model.dim was 8, asked for 32"),
        ({"model.towers.image.args.width": 16}, "model.towers.image.args.width was 8, asked for 16"),
        ({"seed_everything": 4, "model.dim": 4}, "model.dim was 8, asked for 4; seed_everything was 0, .* keeps them"),
    ):
        with pytest.raises(UserError, match=words):
            go_on(out, **changes)
        assert (out / "config.yaml").read_text() == before
    with pytest.raises(UserError, match="started with recipe image-text/demo, not image-text/clip"):
        mmalign.train("image-text/clip", out=out, resume=True)


@pytest.mark.parametrize("size", [200, 90, 350])
def test_another_batch_size_continues_at_the_first_row_not_seen(
    tmp_path: Path, size: int, start: Callable[..., Stop], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    first = start(out, **{"data.drop_last": False})
    rest = go_on(out, **{"data.batch_size": size})
    in_first_epoch = [rows for rows, epoch in zip(rest.rows, rest.epochs, strict=True) if epoch == 0]
    seen = [row for rows in [*first.rows, *in_first_epoch] for row in rows]
    assert sorted(seen) == sorted({row for rows in rest.rows for row in rows} | set(seen))
    assert len(seen) == len(set(seen)), "each row once in the epoch"
    second = [row for rows, epoch in zip(rest.rows, rest.epochs, strict=True) if epoch == 1 for row in rows]
    assert sorted(second) == sorted(seen), "the next epoch is whole"
    line = f"resumed with {size} rows a step (were 200): epoch 1 continues at row 400"
    assert (line in capsys.readouterr().out) == (size != 200)
    assert all(later <= earlier for earlier, later in zip(rest.rates, rest.rates[1:], strict=False))
    assert rest.rates[-1] < 0.1 * max(first.rates), "the learning rate ends where its schedule ends"
    assert mmalign.load(out).encode("text", ["zero"]).vector.shape == (1, 8)


def test_learning_rate_is_continuous_when_the_batch_size_changes(tmp_path: Path, start: Callable[..., Stop]) -> None:
    rates = {}
    for size in (200, 400):
        out = tmp_path / str(size)
        start(out, **{"data.drop_last": False})
        rates[size] = go_on(out, **{"data.batch_size": size}).rates
    # Steps of twice as many rows move along the same cosine twice as fast.
    torch.testing.assert_close(rates[400][0], rates[200][1], rtol=0.05, atol=0.0)


def test_a_longer_run_is_allowed_with_a_message(
    tmp_path: Path, start: Callable[..., Stop], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    start(out)
    longer = go_on(out, **{"trainer.max_epochs": 3})
    assert max(longer.epochs) == 2
    assert (
        "resumed for 3 epochs (were 2): the learning rate follows the schedule of 3 epochs" in capsys.readouterr().out
    )
    assert "max_epochs: 3" in (out / "config.yaml").read_text()


def test_the_command_needs_no_recipe(
    tmp_path: Path, start: Callable[..., Stop], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    start(out)
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "image-text/demo: 1438 training rows" in capsys.readouterr().out
    assert (out / "bundle" / "config.json").is_file()


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert "--resume: no checkpoint at" in capsys.readouterr().err


def test_null_and_absent_are_equal() -> None:
    require_same_settings({"model": {"x": None, "args": {}}}, {"model": {}})
    with pytest.raises(UserError, match="model.x was null, asked for 0"):
        require_same_settings({"model": {"x": None}}, {"model": {"x": 0}})
