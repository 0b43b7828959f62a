"""A run killed between steps and resumed ends with the very weights of an unbroken run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

RECIPE = """
data:
  source: digits
  columns: {image: image, text: text}
  validation: 0.2
  batch_size: 200
model:
  dim: 16
  towers:
    image:
      encoder: vit
      args: {patch: 8, width: 16, depth: 1, heads: 2, dropout: 0.2}
      transform: {size: 16, random_crop: 0.7, jitter: 0.2}
    text: {args: {width: 16, depth: 1, heads: 2}}
  pairs: [{a: image, b: text}]
trainer:
  max_epochs: 3
  accelerator: cpu
  log_every_n_steps: 1
"""

KILLER = """
import os, random, signal
import numpy, torch
from pytorch_lightning import Callback

class Noise(Callback):
    # Draws by every generator that a checkpoint restores: a user's callback may do so.

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        drawn = random.random() + numpy.random.rand() + torch.rand(()).item()
        with torch.no_grad():
            next(module.aligner.parameters()).add_(1e-3 * drawn)

class Kill(Noise):
    def __init__(self, batches: int):
        self.left = batches

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
"""


ROOT = Path(__file__).resolve().parents[2]
"""The tree that is tested, which need not be the installed package."""


def train(python: Path, folder: Path, out: str, *flags: str) -> subprocess.CompletedProcess[str]:
    import_path = os.pathsep.join([str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": import_path, "OMP_NUM_THREADS": "1"}
    command = [str(python), "-m", "mmalign", "train", "recipe.yaml", "--out", out, *flags]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def equal(a: Any, b: Any, where: str = "") -> list[str]:
    """Paths at which two nested states differ, to the bit."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{where} keys"]
        return [path for key in a for path in equal(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        return [path for place, pair in enumerate(zip(a, b, strict=True)) for path in equal(*pair, f"{where}/{place}")]
    return [] if a == b else [f"{where}: {a} {b}"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, forked_python: Path) -> Callable[[list[str]], Path]:
    """Flags -> the folder of a run that is never killed; how often it writes checkpoints changes no result."""
    runs: dict[str, Path] = {}

    def run(flags: list[str]) -> Path:
        flags = flags[2:] if flags[:1] == ["--checkpoint_every"] and "--ema" not in flags else flags
        if str(flags) not in runs:
            folder = tmp_path_factory.mktemp("unbroken")
            (folder / "recipe.yaml").write_text(RECIPE)
            (folder / "killer.py").write_text(KILLER)
            ended = train(forked_python, folder, "run", *flags, "--trainer.callbacks", "killer.Noise")
            assert ended.returncode == 0, ended.stderr
            runs[str(flags)] = folder / "run"
        return runs[str(flags)]

    return run


# 1,797 digits, a fifth held out, 200 a batch: 7 batches an epoch, 21 in all.
@pytest.mark.parametrize(
    ("killed_after", "flags"),
    [
        pytest.param(11, ["--checkpoint_every", "3"], id="mid-epoch"),
        pytest.param(17, ["--checkpoint_every", "3"], id="mid-epoch-of-the-last"),
        pytest.param(16, ["--checkpoint_every", "7"], id="checkpoint-on-the-last-batch-of-an-epoch"),
        pytest.param(10, [], id="checkpoint-at-the-end-of-an-epoch"),
        pytest.param(
            13,
            [
                "--checkpoint_every",
                "2",
                "--ema",
                "0.9",
                "--trainer.accumulate_grad_batches",
                "2",
                "--data.workers",
                "1",
            ],
            id="moving-average-accumulation-worker",
        ),
        pytest.param(
            11,
            ["--checkpoint_every", "3", "--data.stream", "true", "--data.stream_epoch", "1400", "--data.workers", "1"],
            id="stream",
        ),
    ],
)
def test_killed_and_resumed_equals_unbroken(
    tmp_path: Path, killed_after: int, flags: list[str], forked_python: Path, unbroken: Callable[[list[str]], Path]
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "killer.py").write_text(KILLER)
    noise = ["--trainer.callbacks", "killer.Noise"]
    expected = unbroken(flags)
    kill = ["--trainer.callbacks", "killer.Kill", "--trainer.callbacks.batches", str(killed_after)]
    killed = train(forked_python, tmp_path, "broken", *flags, *kill)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = train(forked_python, tmp_path, "broken", *flags)
    assert again.returncode == 2, "an unfinished run is neither overwritten nor resumed without a word"
    assert "--resume" in again.stderr
    # A fresh interpreter has another seed of hashes than the killed one: no order may depend on it.
    python = Path(sys.executable) if "--ema" in flags else forked_python
    resumed = train(python, tmp_path, "broken", *flags, "--resume", *noise)
    assert resumed.returncode == 0, resumed.stderr
    assert "UserWarning" not in resumed.stderr, "advice of Lightning that does not hold here"

    runs = (expected, tmp_path / "broken")
    weights = [load_file(run / "bundle" / "model.safetensors") for run in runs]
    assert equal(*weights) == []
    saved = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "mmalign", "global_step", "epoch"):
        assert equal(saved[0][key], saved[1][key], key) == []
    if "--ema" in flags:
        assert equal(saved[0]["current_model_state"], saved[1]["current_model_state"]) == []
        assert equal(saved[0]["state_dict"], saved[0]["current_model_state"]) != [], "the average is not the model"


def test_other_data_is_refused(tmp_path: Path, forked_python: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("max_epochs: 3", "max_epochs: 1"))
    table = tmp_path / "table.csv"
    rows = "\n".join(f"{place},a sentence about {place}" for place in range(30))
    vector = [
        "--data.source=manifest", "--data.manifest=table.csv", "--data.columns.image=text", "--data.columns.text=text",
        "--model.towers.image.modality=text", "--model.towers.image.encoder=transformer",
        '--model.towers.image.args={"width": 16, "depth": 1, "heads": 2}', "--model.towers.image.transform={}",
        "--data.batch_size=8",
    ]  # fmt: skip
    table.write_text(f"id,text\n{rows}\n")
    first = train(forked_python, tmp_path, "run", *vector)
    assert first.returncode == 0, first.stderr
    table.write_text(f"id,text\n{rows}\n30,one more\n")
    second = train(forked_python, tmp_path, "run", *vector, "--trainer.max_epochs=2", "--resume")
    assert second.returncode == 2
    assert "the data has changed since the checkpoint: 31 rows (were 30), other ids, other labels" in second.stderr
