"""The public API: every name of `mmalign`, training and evaluation by one call."""

import inspect
from pathlib import Path

import pytest
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
