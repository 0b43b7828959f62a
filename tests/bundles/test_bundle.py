import json
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import mmalign
from mmalign.bundles import bundle
from mmalign.errors import UserError
from mmalign.model import Aligner, TowerConfig, fit_transforms
from mmalign.objectives.pairs.pair_config import PairConfig

WORDS = ["a red circle", "a blue square", "two green triangles", "nothing at all"]


@pytest.fixture
def model() -> Aligner:
    towers = {
        "image": TowerConfig(encoder="convnet", args={"width": 4, "depths": [1]}, transform={"size": 16}),
        "text": TowerConfig(args={"width": 16, "depth": 1, "heads": 2}),
    }
    return Aligner(towers, [PairConfig("image", "text")], 8, fit_transforms(towers, {"image": [], "text": WORDS}))


@pytest.fixture
def saved(model: Aligner, tmp_path: Path) -> Path:
    return bundle.save(model, tmp_path / "bundle", provenance={"seed": 3})


PICTURES = [np.full((20, 30, 3), shade, dtype=np.uint8) for shade in (0, 90, 200)]


def test_a_loaded_bundle_gives_the_same_numbers(model: Aligner, saved: Path) -> None:
    loaded = mmalign.load(saved)
    assert loaded.provenance == {"seed": 3}
    for name, items in (("image", PICTURES), ("text", WORDS)):
        assert_close(loaded.encode(name, items).vector, model.encode(name, items).vector, rtol=0, atol=0)
    assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert not loaded.training


def test_it_loads_elsewhere_without_network(saved: Path, tmp_path: Path, forked_python: Path) -> None:
    """A process that has not imported mmalign, another folder, and every socket refused."""
    moved = shutil.copytree(saved, tmp_path / "elsewhere" / "copy")
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "import mmalign; m = mmalign.load(sys.argv[1])\n"
        "print(m.similarity(m.encode('text', ['a red circle']), m.encode('text', ['a red circle'])) "
        "if False else tuple(m.encode('text', ['a red circle']).vector.shape))"
    )
    command = [str(forked_python), "-c", program, str(moved)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "(1, 8)"


def test_a_device_that_is_not_there_is_one_line(saved: Path) -> None:
    with pytest.raises(UserError, match="device cuda:999: "):
        mmalign.load(saved, device="cuda:999")


def test_auto_is_a_gpu_where_there_is_one(saved: Path) -> None:
    assert mmalign.load(saved, device="auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_saving_again_replaces_the_card(model: Aligner, saved: Path) -> None:
    """A run that is repeated into its folder must not keep the card of the former model."""
    assert "- seed: 3" in (saved / "README.md").read_text()
    bundle.save(model, saved, provenance={"seed": 4})
    card = (saved / "README.md").read_text()
    assert "- seed: 4" in card
    assert "- seed: 3" not in card


def test_a_run_folder_is_found(saved: Path) -> None:
    assert bundle.find(saved.parent) == saved
    with pytest.raises(UserError, match="no bundle at"):
        bundle.find(saved.parent / "nothing")


def test_files_that_a_kill_left_do_not_change_the_fingerprint(saved: Path) -> None:
    before = bundle.fingerprint(saved)
    (saved / "transforms" / ".text.json.123.partial.json").write_text("{")
    assert bundle.fingerprint(saved) == before
    mmalign.load(saved)


def test_fingerprint_depends_on_weights_not_on_the_folder(model: Aligner, saved: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved, tmp_path / "copy")
    assert bundle.fingerprint(copy) == bundle.fingerprint(saved)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert bundle.fingerprint(bundle.save(model, tmp_path / "other")) != bundle.fingerprint(saved)


def edit(folder: Path, change: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)  # type: ignore[operator]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "expected JSON"),
        (lambda f: (f / "config.json").write_text("[1]"), "JSON object"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "expected JSON"),
        (lambda f: edit(f, lambda c: c.update(format=99)), "bundle format 2, got 99; it was written by mmalign 0.1.0"),
        (lambda f: edit(f, lambda c: c.pop("model")), "not a bundle's configuration"),
        (lambda f: edit(f, lambda c: c["model"]["towers"].update({"../x": {}})), "cannot be a tower's name"),
        (lambda f: edit(f, lambda c: c["model"]["towers"]["image"]["args"].update(pretrained="w.pt")), "pretrained"),
        (lambda f: edit(f, lambda c: c["model"].update(dim=9)), "does not fit its configuration"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 40), "does not fit its configuration"),
        (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps({"a": 1})), "does not fit its configuration"),
        (lambda f: (f / "transforms" / "text.json").unlink(), "expected a file of this bundle"),
    ],
)
def test_damaged_bundle_is_a_one_line_error(saved: Path, damage: object, message: str) -> None:
    damage(saved)  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as caught:
        mmalign.load(saved)
    assert "\n" not in str(caught.value)


def test_a_bundle_contains_no_pickle(saved: Path) -> None:
    kinds = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".md"}
