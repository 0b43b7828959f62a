"""The recipes of one tower with two views train as they stand, and a pair goes on from their encoders."""

from pathlib import Path

import pytest
from sklearn import datasets
from sklearn.utils import Bunch

import mmalign
from mmalign import recipes
from mmalign.training.run import train

HEARTS = ["--data.options={train: 40, validation: 8, test: 0}", "--data.batch_size=20"]
TEXT = [*HEARTS, "--model.towers.text.args={width: 16, depth: 1, heads: 2, dropout: 0.1}"]
BRIEF = ["--model.dim=8", "--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
SMALL = {
    "text/crops": TEXT,
    "text/dropout": TEXT,
    "image/views": ["--model.towers.image.args.width=4", "--data.batch_size=20"],
    "molecule/subgraph": [
        "--model.towers.molecule.args={width: 8, depth: 2}", "--data.options={train: 30, validation: 6, test: 0}",
        "--data.batch_size=10",
    ],
}  # fmt: skip
NEXT = {
    "text/crops": ["ecg-text/clip", "--data.source=hearts", *HEARTS, "--data.columns={ecg: ecg, text: text}",
                   "--model.towers.text.encoder=transformer", "--model.towers.ecg.encoder=features"],
    "molecule/subgraph": [
        "molecule-text/clip", "--data.source=fragments", "--data.options={train: 30, validation: 6, test: 0}",
        "--data.batch_size=10", "--model.cca_init=null", "--model.towers.molecule.encoder=gine",
    ],
    "image/views": ["image-text/clip", "--data.batch_size=20", "--model.towers.image.transform.size=32",
                    "--model.towers.image.args.width=4",
                    "--model.towers.text.args={width: 16, depth: 1, heads: 2}"],
}  # fmt: skip


def test_every_view_recipe_is_tested() -> None:
    assert set(SMALL) == {name for name in recipes.names() if name.split("/")[0] in ("text", "image", "molecule")}


@pytest.mark.parametrize("recipe", SMALL)
def test_view_recipes_train_on_different_views(
    recipe: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = datasets.load_digits()
    few = Bunch(images=digits.images[::18], target=digits.target[::18])
    monkeypatch.setattr(datasets, "load_digits", lambda: few)
    run = tmp_path / "run"
    train(recipe, [*SMALL[recipe], *BRIEF, f"--out={run}"])
    assert "are equal" not in caplog.text
    (tower,) = mmalign.load(run).towers
    if recipe in NEXT:
        weights = f"--model.towers.{tower}.weights={run}"
        train(NEXT[recipe][0], [*NEXT[recipe][1:], weights, *BRIEF, f"--out={tmp_path / 'pair'}"])
        old, new = (mmalign.load(path).encoders[tower].state_dict() for path in (run, tmp_path / "pair"))
        assert old.keys() == new.keys()


def test_a_text_without_dropout_has_two_equal_views(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    still = "--model.towers.text.args={width: 16, depth: 1, heads: 2, dropout: 0}"
    train("text/dropout", [*TEXT, still, *BRIEF, f"--out={tmp_path}"])
    assert caplog.text.count("the two views of text are equal") == 1
