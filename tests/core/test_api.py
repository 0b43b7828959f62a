"""The public API: every name of `mmalign`, training and evaluation by one call."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

import mmalign
from mmalign import registry
from mmalign.objectives.contrastive import ClipObjective

TINY = {
    "model": {"dim": 8, "towers": {"image": {"args": {"width": 4}}, "text": {"args": {"width": 16, "heads": 2}}}},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "limit_train_batches": 2},
}


@pytest.mark.parametrize("name", mmalign.__all__)
def test_every_public_name_resolves_and_no_module_has_it(name: str) -> None:
    thing = getattr(mmalign, name)
    assert inspect.ismodule(thing) == (name == "functional")
    assert name in dir(mmalign)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        mmalign.tarin  # type: ignore[attr-defined]


class Steps(Callback):
    """Counts steps."""

    count = 0

    def on_train_batch_end(self, *args: object) -> None:
        self.count += 1


def test_a_sweep_of_learning_rates_in_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = {}
    for lr in (1e-4, 1e-3, 1e-2):
        run = mmalign.train("image-text/demo", TINY | {"model.optimizer.lr": lr}, out=tmp_path / f"{lr}")
        losses[lr] = run.metrics[-1]["val/loss"]
    assert len(set(losses.values())) == 3
    assert f'mmalign.load("{run.folder}")' in capsys.readouterr().out
    result = run.evaluate("retrieval", relevance="content", bootstrap=0)
    again = mmalign.evaluate(
        run.bundle,
        mmalign.DataConfig("digits", validation=0.2),
        relevance="content",
        bootstrap=0,
        pair=["image", "text"],
    )
    assert result.to_json()["scores"] == again.to_json()["scores"]


def test_objectives_and_callbacks_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})

    class Halved(ClipObjective):
        """CLIP under another name."""

    steps = Steps()
    pairs = [{"a": "image", "b": "text", "objective": "halved"}]
    run = mmalign.train(
        "image-text/demo", TINY | {"model.pairs": pairs}, out=tmp_path, callbacks=[steps], objectives={"halved": Halved}
    )
    assert steps.count == 2
    assert run.model.pairs[0].objective == "halved"
    assert "halved" in registry.names("objectives")
    with pytest.raises(mmalign.UserError, match="already registered by an installed package"):
        mmalign.train("image-text/demo", out=tmp_path / "other", objectives={"clip": Halved})


def test_a_wrong_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(mmalign.UserError, match="--model.dim"):
        mmalign.train("image-text/demo", {"model.dmi": 3}, out=tmp_path)


def test_embed_search_and_check_take_paths_and_return_values(tmp_path: Path) -> None:
    run = mmalign.train("image-text/demo", TINY, out=tmp_path / "run")
    data = mmalign.DataConfig("digits", validation=0.2)
    table = mmalign.embed(run.folder, data, "image", split="validation")
    assert len(table) == 359
    assert (table.embedding.tower, table.rejected) == ("image", [])
    assert table.bundle == mmalign.bundles.bundle.fingerprint(run.folder)
    first = mmalign.Dataset.open(data, {"image": run.model.modalities["image"]}).split("validation")
    assert table.ids[0] == first.records[0].id
    pixels = next(iter(first.samples("image")))
    torch.testing.assert_close(table.embedding.vector[:1], run.model.encode("image", [pixels]).vector)
    table.write(tmp_path / "digits.parquet")
    queries = ["a handwritten seven", "the digit one"]
    found = mmalign.search(run.folder, queries, tower="text", index=tmp_path / "digits.parquet", k=3)
    assert found.hits == mmalign.search(run.model, queries, tower="text", index=table, k=3).hits
    scores = run.model.similarity(run.model.encode("text", queries), table.embedding)
    assert [hits[0].id for hits in found.hits] == [table.ids[best] for best in scores.argmax(1).tolist()]
    assert [one["query"] for one in found.to_json()] == queries
    with pytest.raises(mmalign.UserError, match="no tower called 'imgae'; did you mean 'image'"):
        mmalign.embed(run.model, data, "imgae")
    other = mmalign.train("image-text/demo", {**TINY, "seed_everything": 1}, out=tmp_path / "other")
    with pytest.raises(mmalign.UserError, match="were made by bundle"):
        mmalign.search(other.folder, queries, tower="text", index=table)
    report = mmalign.check(data)
    assert (report.bad, report.splits) == (0, {"train": 1438, "validation": 359})
    with pytest.raises(mmalign.UserError, match="no modality for 'left': name it with --towers.left NAME"):
        mmalign.check(mmalign.DataConfig("digits", columns={"left": "image"}))
    columns = mmalign.DataConfig("digits", columns={"left": "image", "text": "text"})
    assert mmalign.check(columns, towers={"left": "image"}).towers == {"left": 1797, "text": 1797}


def test_commands_import_public_names_only() -> None:
    """Each command calls one public function: of mmalign only the names of recipes are imported besides."""
    file = Path(mmalign.__file__).parent / "cli" / "commands.py"
    modules = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(str(node.module))
    own = [name for name in modules if name.startswith("mmalign")]
    assert [name for name in own if not name.startswith("mmalign.cli.")] == ["mmalign", "mmalign.recipes"]
