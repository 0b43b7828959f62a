"""Weights of strangers: read if they are tensors, refused if they are anything else."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmalign.errors import UserError
from modalities.common.encoders.safe_weights import read_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def write(path: Path, kind: str) -> Path:
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        wrapped = {"plain": STATE, "wrapped": {"state_dict": STATE, "epoch": 3}}.get(kind)
        torch.save(wrapped or {f"module.{name}": value for name, value in STATE.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "plain", "wrapped", "module"])
def test_weights_are_read_from_safetensors_and_pt(tmp_path: Path, kind: str) -> None:
    found = read_weights(write(tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt"), kind))
    assert found.keys() == STATE.keys()
    for name, value in STATE.items():
        torch.testing.assert_close(found[name], value)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_pickle_does_not_run(tmp_path: Path) -> None:
    for name, write in (("a.pt", torch.save), ("b.bin", lambda o, p: p.write_bytes(pickle.dumps(o)))):
        write({"w": Bomb(tmp_path / "ran")}, tmp_path / name)
        with pytest.raises(UserError, match=f"cannot read weights from .*{name}") as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, {"a": "text"}])
def test_other_content(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="no state dict"):
        read_weights(tmp_path / "w.pt")


def test_missing_and_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights at"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(UserError, match="cannot read weights"):
        read_weights(tmp_path / "bad.safetensors")
