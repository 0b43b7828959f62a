"""Every recipe of ECG and echo trains as it stands, on simulated hearts, and its bundle measures itself."""

import json
from pathlib import Path

import pytest
import torch

import mmalign
from mmalign import recipes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.data.sources.base import SourceConfig
from mmalign.evaluation.run_task import evaluate
from mmalign.training.run import train
from modalities.heart.sources.simulated import HeartsSource
from tests.recipes.test_recipes import logged

PROMPTS = recipes.folder() / "ecg-echo-text" / "prompts" / "ejection_fraction.yaml"
RECIPES = [name for name in recipes.names() if name.split("/")[0] in ("ecg-echo", "ecg-echo-text")]
HEARTS = {"train": 40, "test": 10, "poor": 0.0}
STEPS = ["--data.batch_size=12", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_trains_without_changes(recipe: str, tmp_path: Path) -> None:
    train(recipe, [f"--data.options={HEARTS}", *STEPS, "--trainer.limit_train_batches=3", f"--out={tmp_path}"])
    columns = logged(tmp_path)
    assert len(columns["train/loss"]) == 3
    assert all(value == value for values in columns.values() for value in values)
    model = mmalign.load(tmp_path)
    config = DataConfig("hearts", options=HEARTS, columns={name: name for name in model.towers})
    data = Dataset.open(config, model.modalities, splits=["test"])
    found = evaluate(model, data, "retrieval", pair=("ecg", "echo"), split="test", bootstrap=0)
    assert found.scores["ecg_to_echo"]["n"] == found.scores["ecg_to_echo"]["gallery"] == 10
    # How leads compare reaches the encoder: the same chest leads at half their height are another heart.
    ecg = data.split("test").records[0].values["ecg"][0]
    sample = model.modalities["ecg"].read(HeartsSource(SourceConfig(options=HEARTS)).fetch(ecg))
    low = sample.signal.copy()
    low[6:] /= 2
    form = {"rate": sample.rate, "units": "mV", "leads": sample.leads}
    both = model.encode("ecg", [form | {"signal": signal} for signal in (sample.signal, low)])
    assert not torch.allclose(both.vector[0], both.vector[1], atol=1e-3)
    if "text" not in model.towers:
        return
    found = evaluate(
        model, data, "regression", pair=("ecg", "text"), split="test", prompts=PROMPTS,
        target="ejection_fraction", threshold=40.0, uncertainty=True, bootstrap=0,
    )  # fmt: skip
    assert found.scores["n"] == 10
    assert 15 <= found.details["predicted"].values.min() <= found.details["predicted"].values.max() <= 75
    assert ("variance" in found.scores["uncertainty"]) == recipe.endswith("pcmepp")


def test_incomplete_rows_train_their_other_pairs(tmp_path: Path) -> None:
    source = HeartsSource(SourceConfig(options={**HEARTS, "train": 12}))
    rows = []
    for place, record in enumerate(source.records()[:12]):
        missing = ("text", "echo", "ecg")[place % 3]
        row = {"id": record.id, "split": "train"}
        for side, (value,) in record.values.items():
            if side == missing:
                continue
            if side != "text":
                (tmp_path / value).write_bytes(source.fetch(value))
            row[side] = value
        rows.append(row)
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    where = ["--data.source=manifest", f"--data.manifest={table}", "--data.options={}", f"--out={tmp_path / 'run'}"]
    train("ecg-echo-text/clip", [*where, *STEPS])
    columns = logged(tmp_path / "run")
    terms = [name for name in columns if name.endswith("/loss") and name != "train/loss"]
    assert len(terms) == 3, columns
    assert all(columns[name][0] > 0 for name in terms)  # small after a start in closed form; 0 = nobody counted
