"""A hub that does not answer: one line with the next step, quickly, and no lines of retries."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mmalign import registry
from mmalign.cli import main
from mmalign.errors import UserError
from modalities.common.encoders.hub import hub, local_or_hub

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port that refuses connections
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("silent_hub")
@pytest.mark.parametrize(
    ("modality", "encoder", "args"),
    [
        ("text", "huggingface", {"model": "someone/no-such-text-model"}),
        ("text", "sentence_transformers", {"model": "someone/no-such-sentence-model"}),
        ("text", "huggingface_dual", {"model": "someone/no-such-dual-encoder"}),
        ("image", "huggingface_dual", {"model": "someone/no-such-dual-encoder"}),
        ("image", "open_clip", {"model": "RN50x64", "pretrained": "openai"}),
        ("image", "timm", {"model": "resnet10t", "pretrained": True}),
    ],
)
def test_unreachable_hub_error_is_one_line_with_advice(
    modality: str,
    encoder: str,
    args: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(encoder if encoder in ("open_clip", "timm") else "transformers")
    chosen = registry.load("modalities", modality)
    start = time.perf_counter()
    with pytest.raises(UserError, match="does not answer.*give the path of its file or folder") as caught:
        chosen.encoder(encoder, chosen.transform(encoder, args), **args)
    assert time.perf_counter() - start < 20  # retries take a minute
    assert "\n" not in str(caught.value)
    assert "etry" not in "".join(capfd.readouterr())


@pytest.mark.usefixtures("silent_hub")
def test_a_path_that_is_no_folder_asks_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("modalities.common.encoders.hub._reachable", lambda _: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match=r"no Hugging Face model at \./models/mine: expected a folder"):
        registry.load("modalities", "text").transform("huggingface", {"model": "./models/mine"})


def test_offline_is_named_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"), hub("someone/model"):
        raise OSError("not found")
    assert constants.HF_HUB_OFFLINE is True


def test_errors_of_a_hub_that_answers_are_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("modalities.common.encoders.hub._reachable", lambda _: True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with (
        pytest.raises(UserError, match="cannot load 'someone/model' from the hub: no such revision"),
        hub("someone/model"),
    ):
        raise OSError("no such revision\nand more")
    with pytest.raises(UserError, match=f"cannot load {tmp_path}: damaged"), local_or_hub(str(tmp_path), local=True):
        raise ValueError("damaged")


@pytest.mark.usefixtures("silent_hub")
def test_the_command_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("open_clip")
    model = ["--model.towers.text.encoder", "huggingface", "--model.towers.text.args.model", "someone/no-such-model"]
    assert main(["train", "image-text/demo", *model, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.usefixtures("silent_hub")
def test_a_model_in_the_cache_is_used(tiny_bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of a computer that has downloaded the model before, in the layout of huggingface_hub."""
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_bert, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    text, args = registry.load("modalities", "text"), {"model": "someone/tiny"}
    transform = text.transform("huggingface", args)
    encoder = text.encoder("huggingface", transform, **args).eval()
    local = text.encoder("huggingface", transform, model=tiny_bert).eval()
    inputs = transform.collate([transform.item("a red disc")])
    torch.testing.assert_close(encoder(inputs).vector, local(inputs).vector, atol=0, rtol=0)
