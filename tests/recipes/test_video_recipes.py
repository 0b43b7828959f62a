"""Every recipe with clips trains as it stands on the shapes, and what it saved can be used and explained."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import mmalign
from mmalign import recipes
from mmalign.cli import main
from mmalign.data.sources.base import SourceConfig
from modalities.video import MODALITY
from modalities.video.sources.shapes import ShapesSource

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], mmalign.Run]:
    """Recipe -> a short run of it."""
    return cache(lambda recipe: mmalign.train(recipe, BRIEF, out=tmp_path_factory.mktemp("runs") / "run"))


def test_video_text_has_five_recipes() -> None:
    assert {name.split("/")[1] for name in NAMES} == {"clip", "trajvit", "vit3d", "frames", "transport"}


@pytest.mark.parametrize("recipe", NAMES)
def test_trains_and_embeds_without_changes(recipe: str, tmp_path: Path, trained: Callable[[str], mmalign.Run]) -> None:
    run = trained(recipe)
    vector = mmalign.load(run.bundle).encode("video", [clip_file(tmp_path)]).vector
    assert vector.isfinite().all()
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(1))
    result = run.evaluate("retrieval", split="test", pair=("video", "text"), relevance="content", bootstrap=0)
    assert result.scores["video_to_text"]["n"] == 12


@pytest.mark.parametrize("recipe", ["video-text/clip", "video-text/trajvit", "video-text/transport"])
def test_explain_draws_trajectories(recipe: str, tmp_path: Path, trained: Callable[[str], mmalign.Run]) -> None:
    run = trained(recipe)
    out = tmp_path / "out.png"
    assert main(["explain", str(run.bundle), str(clip_file(tmp_path)), "a red square moves", str(out)]) == 0
    assert out.stat().st_size > 5000


def test_the_default_recipe_learns_the_order_of_frames(tmp_path: Path) -> None:
    # Some seconds of training: only a trained model shows that the sentences and the batches demand the order.
    options = {"task": "order", "train": 128, "validation": 0, "test": 64}
    small = {"size": 32, "cell": 2, "frames": 8, "tracks": "masks"}
    settings = {"data.options": options, "data.validation": 0.0, "trainer.max_epochs": 6, "trainer.accelerator": "cpu"}
    settings |= {f"model.towers.video.transform.{name}": value for name, value in small.items()}
    model = mmalign.load(mmalign.train("video-text/clip", settings, out=tmp_path / "run").bundle)
    source = ShapesSource(SourceConfig(source="shapes", options=options))
    records = [record for record in source.records() if record.split == "test"]
    clips = [MODALITY.read(source.fetch(record.values["video"][0])) for record in records]
    texts = model.encode("text", [record.values["text"][0] for record in records])
    scores = model.similarity(model.encode("video", clips), texts).numpy()
    own = np.arange(len(records))  # records 2k and 2k + 1 have the same frames in opposite orders
    right = scores[own, own] > scores[own, own ^ 1]
    moves = np.array([record.labels[0].startswith("moves") for record in records])
    assert right[moves].mean() >= 0.95, "0.5 = chance"
    assert right.mean() >= 0.7


def test_video_text_means_video_text_clip() -> None:
    assert recipes.find("video-text") == recipes.find("video-text/clip")
