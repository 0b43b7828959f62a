"""Training with several items per record, from the recipe to the bundle."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mmalign
from mmalign.errors import UserError
from mmalign.training.run import train

RECIPE = """
data: {columns: {left: left, text: text}, positives: record, validation: 0.25, batch_size: 6}
model:
  dim: 4
  towers:
    left: {modality: vector, args: {width: 3}}
    text: {modality: text, encoder: transformer, args: {width: 8, depth: 1, heads: 2}, chunk: 5}
  pairs: [{a: left, b: text, objective: one_to_k}]
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""
WORDS = ["red", "green", "blue", "disc", "square", "big", "small", "two", "three", "cats"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """24 records of a vector and one to four captions."""
    rows = [
        {
            "left": [n % 5, n % 3, 1.0],
            "text": [f"{WORDS[n % 5]} {WORDS[5 + k]} {WORDS[n % 7]}" for k in range(1 + n % 4)],
        }
        for n in range(24)
    ]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def weights(recipe: Path, out: str, **overrides: Any) -> dict[str, torch.Tensor]:
    settings = {"data.manifest": str(recipe.with_name("table.jsonl")), **overrides}
    return mmalign.train(str(recipe), settings, out=recipe.with_name(out)).model.state_dict()


def test_several_captions_train_a_model_and_one_caption_is_the_default(recipe: Path) -> None:
    several = weights(recipe, "several", **{"data.draw": {"text": 3}})
    plain = weights(recipe, "plain")
    one = weights(recipe, "one", **{"data.draw.text": 1})
    clip = weights(recipe, "clip", **{"model.pairs.0.objective": "clip"})
    for name, value in plain.items():
        assert torch.equal(one[name], value)
        torch.testing.assert_close(clip[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(several[name], value) for name, value in plain.items())
    assert all(value.isfinite().all() for value in several.values())


def test_an_objective_of_one_item_is_refused_before_the_data_are_read(recipe: Path) -> None:
    flags = ["--data.manifest=no/such/table.tsv", "--data.draw.text=3", "--model.pairs.0.objective=late_interaction"]
    with pytest.raises(UserError, match=r"--data\.draw\.text: pair left-text has the objective 'late_interaction'"):
        train(str(recipe), [*flags, f"--out={recipe.parent / 'run'}"])


def test_draw_without_alternatives_gives_a_warning(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"left": [n, 1, 1], "text": WORDS[n % 10]} for n in range(12)]
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    weights(recipe, "single", **{"data.draw": {"text": 0}, "trainer.max_epochs": 1})
    assert "--data.draw.text has no effect: every training record has one alternative" in caplog.text
