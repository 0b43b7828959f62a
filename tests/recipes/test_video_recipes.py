"""Every recipe with clips trains as it stands on the shapes, and what it saved can be used and explained."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mmalign
from mmalign import recipes
from mmalign.cli import main

BRIEF = {
    "data.options.train": 24,
    "data.options.validation": 12,
    "data.options.test": 12,
    "data.batch_size": 12,
    "trainer.max_epochs": 1,
    "model.towers.video.transform.frames": 6,
    "model.towers.video.transform.size": 32,
}
NAMES = [name for name in recipes.names() if name.startswith("video-text/")]


def clip_file(folder: Path) -> Path:
    """A clip without masks in a file of its own."""
    frames = np.random.default_rng(0).integers(0, 256, (8, 48, 40, 3), dtype=np.uint8)
    np.savez(folder / "clip.npz", frames=frames, rate=8.0)
    return folder / "clip.npz"


def test_the_recipes_are_there() -> None:
    assert {name.split("/")[1] for name in NAMES} == {"clip", "trajvit", "vit3d", "frames", "transport"}


@pytest.mark.parametrize("recipe", NAMES)
def test_trains_and_embeds_without_changes(recipe: str, tmp_path: Path) -> None:
    run = mmalign.train(recipe, BRIEF, out=tmp_path / "run")
    vector = mmalign.load(run.bundle).encode("video", [clip_file(tmp_path)]).vector
    assert vector.isfinite().all()
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(1))
    result = run.evaluate("retrieval", split="test", pair=("video", "text"), relevance="content", bootstrap=0)
    assert result.scores["video_to_text"]["n"] == 12


@pytest.mark.parametrize("recipe", ["video-text/clip", "video-text/trajvit", "video-text/transport"])
def test_explain_draws_trajectories(recipe: str, tmp_path: Path) -> None:
    run = mmalign.train(recipe, BRIEF, out=tmp_path / "run")
    out = tmp_path / "out.png"
    assert main(["explain", str(run.bundle), str(clip_file(tmp_path)), "a red square moves", str(out)]) == 0
    assert out.stat().st_size > 5000


def test_the_name_of_the_pair_is_the_recipe_clip() -> None:
    assert recipes.find("video-text") == recipes.find("video-text/clip")
