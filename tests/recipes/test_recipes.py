"""Every recipe trains a few steps as it stands, on the embedded digits, and its bundle measures itself."""

import csv
from pathlib import Path

import pytest
import torch
from sklearn import datasets
from sklearn.utils import Bunch

import mmalign
from mmalign import recipes
from mmalign.data.config import DataConfig
from mmalign.data.dataset import Dataset
from mmalign.evaluation.run_task import evaluate
from mmalign.heads.codebook import START
from mmalign.training.run import train
from mmalign.types import Embedding

BRIEF = [
    "--data.source=digits", "--data.columns.image=image", "--data.columns.text=text", "--data.batch_size=20",
    "--model.towers.image.transform.size=32", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=1", "--trainer.log_every_n_steps=1",
]  # fmt: skip


def logged(out: Path) -> dict[str, list[float]]:
    """Column of the run's log -> the numbers in it."""
    columns: dict[str, list[float]] = {}
    with next((out / "logs").rglob("metrics.csv")).open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    columns.setdefault(name, []).append(float(value))
    return columns


@pytest.mark.parametrize(
    "recipe",
    [name for name in recipes.names() if name.startswith("image-text/") and name != "image-text/open_clip"],
)  # of a pretrained model: test_open_clip.py
def test_trains_without_changes(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = datasets.load_digits()
    a_third = Bunch(images=digits.images[::3], target=digits.target[::3])
    monkeypatch.setattr(datasets, "load_digits", lambda: a_third)
    train(recipe, [*BRIEF, f"--out={tmp_path}"])
    columns = logged(tmp_path)
    assert len(columns["train/loss"]) == 3
    assert all(value == value for values in columns.values() for value in values)
    model = mmalign.load(tmp_path)
    a, b = model.encode("text", ["a handwritten two", "the digit nine"]), model.encode("text", ["one"])
    again = mmalign.load(tmp_path).encode("text", ["the digit nine"])
    torch.testing.assert_close(a.vector[1:], again.vector, atol=1e-5, rtol=1e-5)
    assert len(b) == 1
    data = DataConfig("digits")
    found = evaluate(model, data, "retrieval", pair=("image", "text"), relevance="content", bootstrap=0)
    assert found.scores["image_to_text"]["n"] > 100
    for score in model.objective.between("image", "text")[0].scores:
        other = evaluate(model, data, "zero-shot", pair=("image", "text"), bootstrap=0, score=score)
        assert other.provenance["protocol"]["score"] == score


def test_terms_schedules_and_gradient_norms_are_logged(tmp_path: Path) -> None:
    """Global vectors beside the codes, faded in; a scheduled temperature; how strongly each term gradient_norms."""
    pairs = (
        "--model.pairs=[{a: image, b: text, objective: fdt, score_weight: 0.5}, "
        "{a: image, b: text, objective: clip, weight: 2, schedule: [[0, 0], [1, 1]], score_weight: 0.5}]"
    )
    flags = ["--model.codebook.mode=scheduled", "--model.codebook.codes=64", pairs]
    train("image-text/fdt", [*BRIEF, *flags, "--trainer.max_epochs=2", f"--out={tmp_path}"])
    columns = logged(tmp_path)
    weights = [0.0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]
    assert columns["train/image_text_clip/weight"] == pytest.approx([2 * weight for weight in weights])
    assert columns["train/image_text_clip/gradient_norm"][0] == 0
    assert all(norm > 0 for norm in columns["train/image_text_clip/gradient_norm"][1:])
    assert all(norm > 0 for norm in columns["train/image_text/gradient_norm"])
    for name in ("live", "perplexity", "support", "scale"):
        assert len(columns[f"train/image_text/{name}"]) == 6
    model = mmalign.load(tmp_path)
    start = START * 64
    assert model.codebook is not None
    assert float(model.codebook.temperature.detach()) == pytest.approx(start * 0.1 ** (5 / 6))
    image = Dataset.open(DataConfig("digits"), {"image": model.modalities["image"]}, splits=["validation"])
    some = model.encode("image", [next(iter(image.split("validation").samples("image")))])
    said = model.encode("text", ["a handwritten two"])
    fdt, clip = model.objective.objectives
    torch.testing.assert_close(
        model.similarity(some, said), 0.5 * fdt.similarity(some, said) + 0.5 * clip.similarity(some, said)
    )


def test_a_tower_in_chunks_trains_to_the_same_weights(tmp_path: Path) -> None:
    weights = {}
    for name, chunk in (("whole", "null"), ("chunked", "7")):
        flags = ["--model.towers.image.encoder=vit", "--model.towers.image.args={width: 16, depth: 1, heads: 2}"]
        flags += [f"--model.towers.image.chunk={chunk}", f"--model.towers.text.chunk={chunk}"]
        train("image-text/clip", [*BRIEF, *flags, f"--out={tmp_path / name}"])
        weights[name] = mmalign.load(tmp_path / name).state_dict()
    for key, value in weights["whole"].items():
        torch.testing.assert_close(weights["chunked"][key], value, atol=2e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="batch normalisation"):
        train("image-text/clip", [*BRIEF, "--model.towers.image.chunk=7", f"--out={tmp_path / 'refused'}"])


def test_a_gaussian_model_writes_uncertainties(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from mmalign.cli import main

    train("image-text/pcmepp", [*BRIEF, f"--out={tmp_path / 'run'}"])
    out = tmp_path / "images.parquet"
    assert main(["embed", str(tmp_path / "run"), "image", str(out), "--split", "validation"]) == 0
    column = pq.read_table(out).column("uncertainty").to_numpy()
    model = mmalign.load(tmp_path / "run")
    data = Dataset.open(DataConfig("digits"), {"image": model.modalities["image"]}, splits=["validation"])
    some = [sample for sample, _ in zip(data.split("validation").samples("image"), range(5), strict=False)]
    torch.testing.assert_close(torch.tensor(column[:5]), model.encode("image", some).uncertainty)
    with pytest.raises(ValueError, match="log_variance"):
        _ = Embedding(torch.eye(2)).uncertainty
