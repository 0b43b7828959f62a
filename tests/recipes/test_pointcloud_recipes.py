"""Every recipe with point clouds trains as it stands on the solids, and what it saved can be used."""

from pathlib import Path

import pytest
import torch

import mmalign
from mmalign import recipes

BRIEF = {
    "data.options.train": 40,
    "data.options.validation": 10,
    "data.options.test": 14,
    "data.batch_size": 20,
    "trainer.max_epochs": 1,
}
TINY = {
    f"model.towers.pointcloud.args.{name}": value
    for name, value in {"groups": 8, "group_size": 8, "width": 16, "depth": 1, "heads": 2}.items()
}
NAMES = [name for name in recipes.names() if name.startswith("pointcloud")]


@pytest.mark.parametrize("recipe", NAMES)
def test_trains_and_embeds_without_changes(recipe: str, tmp_path: Path) -> None:
    tiny = {} if recipe.endswith("features") else TINY
    size = {"model.dim": 32} if recipe.startswith("pointcloud/") else {}
    run = mmalign.train(recipe, {**BRIEF, **tiny, **size}, out=tmp_path / "run")
    model = mmalign.load(run.bundle)
    cloud = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).numpy()
    vector = model.encode("pointcloud", [cloud]).vector
    assert vector.isfinite().all()
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(1))
    if "text" in recipe:
        result = run.evaluate("zero-shot", split="test", pair=("pointcloud", "text"), bootstrap=0)
        assert result.scores["n"] == 14, result


def test_a_pretrained_encoder_enters_another_recipe(tmp_path: Path) -> None:
    pretrained = mmalign.train("pointcloud/mae", {**BRIEF, **TINY, "model.dim": 32}, out=tmp_path / "mae")
    overrides = {
        **BRIEF, "model.towers.pointcloud.weights": str(pretrained.bundle), "model.optimizer.lr": 0.0,
        "model.towers.pointcloud.args": {},
    }  # fmt: skip
    run = mmalign.train("pointcloud-text/clip", overrides, out=tmp_path / "clip")
    cloud = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)).numpy()
    before, after = (mmalign.load(one.bundle) for one in (pretrained, run))
    transform = before.transforms["pointcloud"]
    inputs = transform.collate([transform.item(before.modalities["pointcloud"].read(cloud))])
    with torch.no_grad():
        vectors = [model.encoders["pointcloud"].eval()(inputs).vector for model in (before, after)]
    torch.testing.assert_close(*vectors, rtol=0, atol=0)
