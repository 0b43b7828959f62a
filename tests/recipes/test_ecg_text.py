"""Every recipe of ECG and text trains as it stands, on simulated hearts, and its prompts judge the superclasses."""

from pathlib import Path

import pytest
import torch

import mmalign
from mmalign import recipes
from mmalign.data.config import DataConfig
from mmalign.evaluation.prompts.contrast_prompts import ClassPrompts
from mmalign.evaluation.run_task import evaluate
from mmalign.training.run import train
from modalities.ecg.sources.ptbxl import SUPERCLASSES

PROMPTS = recipes.folder() / "ecg-text" / "prompts"
BRIEF = [
    "--data.source=hearts", "--data.options={train: 40, test: 12}", "--data.batch_size=16",
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1",
]  # fmt: skip


@pytest.mark.parametrize("recipe", [name for name in recipes.names() if name.startswith("ecg-text/")])
def test_trains_without_changes(recipe: str, tmp_path: Path) -> None:
    train(recipe, [*BRIEF, f"--out={tmp_path}"])
    model = mmalign.load(tmp_path)
    sentences = ["wide QRS complexes", "a normal heart"]
    torch.testing.assert_close(
        model.encode("text", sentences).vector, mmalign.load(tmp_path).encode("text", sentences).vector
    )
    data = DataConfig("hearts", options={"train": 40, "test": 12}, columns={"ecg": "ecg", "text": "text"})
    found = evaluate(model, data, "retrieval", pair=("ecg", "text"), split="train", relevance="content", bootstrap=0)
    # The closed form knows its training rows before the first step: chance is below 1 in 4 at this k.
    assert found.scores["ecg_to_text"]["hit@10"] > 0.5


@pytest.mark.parametrize("name", sorted(path.name for path in PROMPTS.iterdir()))
def test_prompts_have_positive_and_negative_texts_per_superclass(name: str) -> None:
    prompts = ClassPrompts.load(PROMPTS / name)
    assert tuple(prompts.names) == SUPERCLASSES
    assert set(prompts.negative) == set(SUPERCLASSES)
    for label in SUPERCLASSES:
        assert not set(prompts.positive[label]) & set(prompts.negative[label])
