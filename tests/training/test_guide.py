"""A frozen guide in training: its vectors by record, what it changes, what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch

import mmalign
from mmalign.data.dataset import Dataset
from mmalign.errors import UserError
from mmalign.model import Aligner
from mmalign.training.guide import Guidance, GuideConfig

TOWER = {"modality": "text", "args": {"width": 8, "depth": 1, "heads": 2}}
WORDS = ("red", "blue", "green", "black", "white", "grey", "pink", "brown")


def aligner(names: tuple[str, str], objective: str = "clip") -> Aligner:
    towers = {name: mmalign.TowerConfig(**TOWER) for name in names}  # type: ignore[arg-type]
    pairs = [mmalign.PairConfig(*names, objective)]
    return Aligner(towers, pairs, 4, mmalign.fit_transforms(towers, dict.fromkeys(names, WORDS)))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    rows = [f"{n},a {word} disc,the {word} one|{word}" for n, word in enumerate(WORDS)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,left,right", *rows]) + "\n")
    config = mmalign.DataConfig(
        manifest=str(tmp_path / "rows.csv"), columns={"left": "left", "right": "right"}, separator="|", validation=0.25
    )
    text = mmalign.modality_of("left", mmalign.TowerConfig(modality="text"))
    return Dataset.open(config, {"left": text, "right": text})


def test_rows_get_the_guides_vectors_of_their_records(data: Dataset, tmp_path: Path) -> None:
    guide = aligner(("left", "words")).eval()
    folder = mmalign.save(guide, tmp_path / "guide")
    config = GuideConfig(str(folder), {"right": "words"}, margin=0.25, relative_margin=0.5)
    guidance = Guidance.of(config, aligner(("left", "right")), data)
    train = data.split("train")
    ids = torch.tensor(train.indices)[[3, 0]]
    none: dict[str, Any] = {}
    given = guidance(mmalign.Batch(none, none, ids, ids)).guides["left", "right"]
    texts = [train.records[row] for row in (3, 0)]
    left = guide.encode("left", [record.values["left"][0] for record in texts]).vector
    right = [guide.encode("words", list(record.values["right"])).vector.mean(0) for record in texts]
    torch.testing.assert_close(given.a, left)
    torch.testing.assert_close(given.b, torch.nn.functional.normalize(torch.stack(right), dim=1))
    assert (given.margin, given.relative_margin) == (0.25, 0.5)


def test_guide_with_one_tower_compares_samples_of_that_tower(data: Dataset, tmp_path: Path) -> None:
    folder = mmalign.save(aligner(("left", "words")), tmp_path / "guide")
    guidance = Guidance.of(GuideConfig(str(folder), margin=0.1), aligner(("left", "right")), data)
    assert guidance.pairs == {("left", "right"): ("left", "left")}


@pytest.mark.parametrize(
    ("names", "objective", "config", "message"),
    [
        (("left", "right"), "clip", {}, "the positive has similarity 1"),
        (("left", "right"), "clip", {"margin": float("nan")}, r"model\.guide\.margin: expected a finite number"),
        (
            ("left", "right"),
            "late_interaction",
            {},
            "no pair has an objective that uses a guide; these do: clip, siglip",
        ),
        (("left", "right"), "clip", {"towers": {"rihgt": "words"}}, "no tower 'rihgt'"),
        (("left", "right"), "clip", {"towers": {"right": "wrods"}}, "the guide has no tower 'wrods'"),
        (("a", "b"), "clip", {}, "reads neither 'a' nor 'b', it has left, words"),
    ],
)
def test_invalid_guides_are_errors(
    names: tuple[str, str], objective: str, config: dict[str, Any], message: str, data: Dataset, tmp_path: Path
) -> None:
    folder = mmalign.save(aligner(("left", "words")), tmp_path / "guide")
    with pytest.raises(UserError, match=message):
        Guidance.of(GuideConfig(str(folder), **config), aligner(names, objective), data)


def test_a_recipe_with_a_guide(tmp_path: Path) -> None:
    """Weights differ by the guide, and not by a guide that masks nothing."""
    recipe = tmp_path / "recipe.yaml"
    rows = [f"{n},a {word} disc number {n},the {word} one {n}" for n, word in enumerate(WORDS * 2)]
    (tmp_path / "rows.csv").write_text("\n".join(["id,left,right", *rows]) + "\n")
    recipe.write_text(
        f"""
data: {{manifest: {tmp_path / "rows.csv"}, columns: {{left: left, right: right}}, validation: 0.0, batch_size: 8}}
model:
  dim: 4
  towers:
    left: {{modality: text, args: {{width: 8, depth: 1, heads: 2}}}}
    right: {{modality: text, args: {{width: 8, depth: 1, heads: 2}}}}
  pairs: [{{a: left, b: right, objective: clip}}]
  optimizer: {{lr: 0.01, warmup: 0.1}}
trainer: {{accelerator: cpu, max_epochs: 1, enable_progress_bar: false, enable_model_summary: false}}
"""
    )
    guide = str(mmalign.save(aligner(("left", "right")), tmp_path / "guide"))

    def weights(name: str, **settings: float) -> dict[str, torch.Tensor]:
        given = {f"model.guide.{key}": value for key, value in settings.items()}
        given |= {"model.guide.weights": guide} if settings else {}  # type: ignore[dict-item]
        run = mmalign.train(recipe, given, out=tmp_path / name)
        assert ("train/left_right/masked" in run.metrics[-1]) == bool(settings)
        assert ("guide" in run.model.provenance) == bool(settings)
        return run.model.state_dict()

    plain = weights("plain")
    torch.testing.assert_close(weights("nothing", margin=-3.0), plain, rtol=0, atol=0)
    guided = weights("guided", margin=0.05)
    assert any(not torch.equal(guided[name], value) for name, value in plain.items())
