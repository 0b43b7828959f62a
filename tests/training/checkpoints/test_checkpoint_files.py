"""Checkpoints survive a full disk and find damage; a run folder has one run at a time; what a bundle was saved with."""

import logging
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import mmalign
from mmalign import UserError
from mmalign.cli import main
from mmalign.safe_io.safe_writing import locked
from mmalign.training.checkpoints.checkpoint_files import AtomicCheckpoints, demand_undamaged
from tests.training.small_run import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    return mmalign.train("image-text/demo", SMALL, out=out).folder


def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_damaged_checkpoints_are_refused_or_equal(run: Path, tmp_path: Path) -> None:
    """A flipped bit is found by the checksums in the file, or changes nothing that is read."""
    last = run / "checkpoints" / "last.ckpt"
    whole, reference = last.read_bytes(), torch.load(last, weights_only=True)
    rng, refused, damaged = random.Random(0), 0, tmp_path / "last.ckpt"
    for _ in range(60):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(data)
        try:
            demand_undamaged(damaged)
            state = torch.load(damaged, weights_only=True)
        except (UserError, RuntimeError):
            refused += 1
            continue
        for name, value in reference["state_dict"].items():
            assert torch.equal(state["state_dict"][name], value)
        assert state["global_step"] == reference["global_step"]
    assert refused > 30
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged or another file; start the run again"):
        demand_undamaged(damaged)


def test_previous_checkpoint_is_kept_and_suggested(run: Path, tmp_path: Path) -> None:
    folder = copied(run, tmp_path)
    last, before = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    steps = [torch.load(path, weights_only=True)["global_step"] for path in (before, last)]
    assert steps == [7, 14]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    with pytest.raises(UserError, match=r"damaged or another file; the one before it is .*previous.ckpt: copy it to"):
        mmalign.train("", out=folder, resume=True)
    shutil.copy(before, last)
    resumed = mmalign.train("", out=folder, resume=True)
    for name, value in mmalign.load(run).state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"step": 1}, last)

    def full(value: Any, file: Any) -> None:
        """As torch: its writer ends with an error of its own."""
        try:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"cannot write the checkpoint \(.*No space left.*; the one before is kept"):
        AtomicCheckpoints().save_checkpoint({"step": 2}, last)
    monkeypatch.undo()
    assert torch.load(last, weights_only=True) == {"step": 1}
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


def test_a_run_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with locked(out / ".lock", "the test"), pytest.raises(UserError, match="the run folder .* is in use by another"):
        mmalign.train("image-text/demo", SMALL, out=out)
    assert mmalign.train("image-text/demo", {**SMALL, "trainer.max_epochs": 1}, out=out).bundle.is_dir()


def test_a_bundle_of_two_saves_is_refused(run: Path, tmp_path: Path) -> None:
    folder = copied(run, tmp_path) / "bundle"
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="not the file that was saved with it"):
        mmalign.load(folder)


def test_weights_that_are_not_finite_are_refused(run: Path, tmp_path: Path) -> None:
    model = mmalign.load(run)
    name, parameter = next(iter(model.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nan
    saved = mmalign.save(model, tmp_path / "bundle")
    with pytest.raises(UserError, match=f"got NaN or infinity in {name}; train the model again"):
        mmalign.load(saved)


def test_every_user_can_read_a_bundle(run: Path) -> None:
    files = [path for path in (run / "bundle").rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~_umask()}


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_bundle_beside_the_settings_of_a_later_run_is_named(run: Path, tmp_path: Path) -> None:
    folder = copied(run, tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["validation"] = 0.4
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="not the settings that the bundle was trained with"):
        mmalign.Run(folder).evaluate()
    data = mmalign.DataConfig("digits", validation=0.2)
    assert mmalign.evaluate(folder, data, bootstrap=0, relevance="content").scores  # named data need no settings


def test_runs_are_evaluated_from_other_working_folders_and_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is evaluated from any folder on its own table, and `~` is the home folder everywhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        rows = "\n".join(f"{folder.name} {index},{index % 7}" for index in range(40))
        (folder / "t.csv").write_text(f"text,other\n{rows}\n")
    (one / "recipe.yaml").write_text(
        "data: {manifest: t.csv, columns: {a: text, b: other}, validation: 0.5, batch_size: 8}\n"
        "model:\n  dim: 4\n  towers:\n    a: {modality: text, args: {width: 8, depth: 1, heads: 1}}\n"
        "    b: {modality: text, args: {width: 8, depth: 1, heads: 1}}\n  pairs: [{a: a, b: b}]\n"
        "trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false}\n"
    )
    monkeypatch.chdir(one)
    assert main(["train", "~/one/recipe.yaml", "--out=~/run"]) == 0
    assert not (one / "~").exists()
    monkeypatch.chdir(two)
    assert main(["evaluate", "~/run", "--json=~/result.json", "--rows=~/rows.csv", "--bootstrap", "0"]) == 0
    assert (tmp_path / "result.json").is_file()
    assert "one " not in capsys.readouterr().err
    held = mmalign.load("~/run").provenance["rows"]["validation"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 2 * held


@pytest.mark.parametrize("objective", ["clip", "prototypes"])
def test_averaged_constants_are_in_their_range(objective: str, tmp_path: Path) -> None:
    args = {"initial_scale": 1.0, "max_scale": 1.0} if objective == "clip" else {"dim": 8}
    pairs = [{"a": "image", "b": "text", "objective": objective, "args": args}]
    settings = {**SMALL, "ema": 0.5, "model.pairs": pairs, "model.optimizer.lr": 0.03, "trainer.max_epochs": 3}
    term = mmalign.train("image-text/demo", settings, out=tmp_path / "run").model.objective.objectives[0]
    if objective == "clip":
        assert float(term.log_scale.detach().exp()) <= 1 + 1e-6
    else:
        torch.testing.assert_close(term.prototypes.norm(dim=1), torch.ones(len(term.prototypes)))


def test_a_batch_of_one_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mmalign"):
        mmalign.train("image-text/demo", {**SMALL, "data.batch_size": 1, "trainer.max_steps": 1}, out=tmp_path / "run")
    assert "a batch of one record has no negatives" in caplog.text
