"""Own code in a file that the user names: it registers, trains, evaluates; what is wrong with it is one line."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mmalign
from mmalign import registry
from mmalign.cli import main

OBJECTIVE = '''
from pathlib import Path
import pytorch_lightning as pl
from torch.nn.functional import cross_entropy
import mmalign


class Contrastive(mmalign.Objective):
    """InfoNCE at a fixed temperature."""

    def loss(self, a, b, global_batch):
        targets = global_batch.own_indices
        from_a = cross_entropy(self.similarity(a, global_batch.b) / 0.1, targets, reduction="none")
        from_b = cross_entropy(self.similarity(b, global_batch.a) / 0.1, targets, reduction="none")
        return (from_a + from_b) / 2

    def similarity(self, a, b, score=""):
        return a.vector @ b.vector.T


class Steps(pl.Callback):
    """Writes the number of steps into the run folder."""

    def on_train_end(self, trainer, module):
        Path("steps.txt").write_text(str(trainer.global_step))


mmalign.register("objectives", "fixed-temperature", Contrastive)
mmalign.register("callbacks", "steps", Steps())
'''
TINY = [
    "--model.dim=8", "--model.towers.image.args.width=4", "--model.towers.text.args.width=16",
    "--model.towers.text.args.heads=2", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    '--model.pairs=[{"a": "image", "b": "text", "objective": "fixed-temperature"}]',
]  # fmt: skip


@pytest.fixture(autouse=True)
def only_installed_names() -> Iterator[None]:
    """Forget what a test registered."""
    yield
    for key in registry.registered():
        registry.unregister(*key)
    for name in [name for name in sys.modules if name.startswith("mmalign_plugin_")]:
        del sys.modules[name]


def written(folder: Path, content: str, name: str = "mine.py") -> str:
    file = folder / name
    file.write_text(content)
    return str(file)


def test_a_plugin_trains_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin = written(tmp_path, OBJECTIVE)
    assert main(["train", "image-text/demo", *TINY, "--out", "run", "--plugin", plugin]) == 0
    assert int((tmp_path / "steps.txt").read_text()) > 0
    assert main(["evaluate", "run", f"--plugin={plugin}", "--task", "zero-shot", "--json", "out.json"]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["scores"]["n"] == 359
    model = mmalign.load("run")
    assert model.pairs[0].objective == "fixed-temperature"
    registry.unregister("objectives", "fixed-temperature")
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    message = capsys.readouterr().err
    assert "fixed-temperature" in message
    assert "--plugin FILE" in message


def test_list_shows_names_of_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = written(tmp_path, OBJECTIVE)
    assert main(["list", "objective.fixed-temperature", "--plugin", plugin]) == 0
    assert "InfoNCE at a fixed temperature" in capsys.readouterr().out


def test_loading_twice_imports_once(tmp_path: Path) -> None:
    plugin = written(tmp_path, OBJECTIVE)
    assert mmalign.load_plugin(plugin) is mmalign.load_plugin(plugin)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(mmalign.UserError, match="loaded already"):
        mmalign.load_plugin(written(other, OBJECTIVE))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import mmalign\n", "registers nothing"),
        ("import mmalign\n1 / 0\n", "line 2: ZeroDivisionError"),
        ("import mmalign\nclass A(:\n", "line 2: SyntaxError"),
        ("import a_package_that_is_not_there\n", "line 1: ModuleNotFoundError"),
        ('import mmalign\nmmalign.register("objectives", "clip", object)\n', "already registered by an installed"),
        ('import mmalign\nmmalign.register("objective", "mine", object)\n', "did you mean 'objectives'"),
    ],
)
def test_a_faulty_plugin_is_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = written(tmp_path, content)
    assert main(["list", "--plugin", plugin]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"mmalign list: --plugin {plugin}: ")
    assert message in lines[0]
    assert not [name for name in sys.modules if name.startswith("mmalign_plugin_")]


@pytest.mark.parametrize("value", ["missing.py", "folder", "notes.txt"])
def test_only_a_python_file_is_imported(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("import mmalign")
    assert main(["list", "--plugin", value]) == 2
    assert "expected a Python file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--plugin"], ["--plugin", "--json"], ["--plugin="]])
def test_a_plugin_without_a_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *arguments]) == 2
    assert "expected a Python file after it" in capsys.readouterr().err


def test_a_recipe_cannot_name_a_plugin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "ran"
    plugin = written(tmp_path, f"open({str(marker)!r}, 'w')")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"plugin: {plugin}\nmodel: {{}}\n")
    assert main(["train", str(recipe)]) == 2
    assert "plugin" in capsys.readouterr().err
    assert not marker.exists()


def test_a_registered_callback_joins_every_training_of_the_process(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    class Count(pl.Callback):
        seen = 0

        def on_train_batch_end(self, *_: object) -> None:
            Count.seen += 1

    mmalign.register("callbacks", "count", Count())
    flags = [flag for flag in TINY if "pairs" not in flag]
    run = mmalign.train("image-text/demo", [*flags, "--trainer.max_steps=3"], out=tmp_path / "run")
    assert Count.seen == 3
    assert torch.isfinite(run.model.encode("text", ["seven"]).vector).all()
