"""`mmalign train` on two processes, as Lightning and torchrun start them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmalign import distributed

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "train", "image-text/demo", "--model.towers.image.args={width: 4}", "--model.dim=8", "--data.batch_size=256",
    "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.devices=2",
]  # fmt: skip
STREAM = ["--data.stream=true", "--data.stream_epoch=1024", "--data.stream_head=100", "--data.workers=1"]


@pytest.mark.parametrize(
    ("launcher", "flags"),
    [
        pytest.param([], [], id="lightning", marks=pytest.mark.slow),
        pytest.param([], STREAM, id="lightning-stream"),
        pytest.param(["-m", "torch.distributed.run", "--nproc_per_node=2"], [], id="torchrun", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_one_model(tmp_path: Path, launcher: list[str], flags: list[str]) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "mmalign", *FLAGS, *flags, "--out=run"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("training rows") == ended.stdout.count("saved run/bundle") == 1, ended.stdout
    assert (tmp_path / "run" / "bundle" / "config.json").is_file()


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "3"}, True),
        ({"SLURM_PROCID": "3"}, False),
        ({"RANK": "no number"}, True),
    ],
)
def test_first_process_by_the_launchers_variables(
    variables: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.is_first() is first
