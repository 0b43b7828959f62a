"""The recipe image-text/open_clip on small models: SigLIP, LiT, LoRA, linear probe, and what a user can get wrong."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mmalign
from mmalign.data.config import DataConfig
from mmalign.errors import UserError
from mmalign.evaluation.run_task import evaluate
from mmalign.training.checkpoints.checkpoint_bundle import bundle_from_checkpoint
from mmalign.training.run import train

open_clip = pytest.importorskip("open_clip")

CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
FAST = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--data.batch_size=20",
    "--trainer.accelerator=cpu",
]
BOTH = ("image", "text")
DIGITS = [f"the digit {name}" for name in ("zero", "one", "two", "three", "four")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of open_clip with random weights: clip.json and clip.safetensors, siglip.json and siglip.safetensors."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, config, bias in (("clip", CLIP, None), ("siglip", {**CLIP, "init_logit_bias": -10.0}, -7.5)):
        (path / f"{name}.json").write_text(json.dumps(config))
        model = open_clip.CLIP(**config)
        with torch.no_grad():
            model.logit_scale.fill_(math.log(37.0))
            if bias is not None:
                model.logit_bias.fill_(bias)
        save_file(model.state_dict(), path / f"{name}.safetensors")
    return path


def arguments(folder: Path, out: Path, *flags: str, name: str = "clip") -> list[str]:
    model = [f"--model.encoder_args.open_clip.model={folder / name}.json"]
    weights = [f"--model.encoder_args.open_clip.pretrained={folder / name}.safetensors"]
    return [*model, *weights, *FAST, f"--out={out}", *flags]


def run(folder: Path, out: Path, *flags: str, name: str = "clip") -> mmalign.Aligner:
    train("image-text/open_clip", arguments(folder, out, *flags, name=name))
    return mmalign.load(out)


def weights_of(model: mmalign.Aligner, tower: str) -> dict[str, torch.Tensor]:
    return dict(model.encoders[tower].state_dict())


def theirs(folder: Path, name: str = "clip") -> Any:
    config = json.loads((folder / f"{name}.json").read_text())
    model = open_clip.CLIP(**config)
    model.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return model.eval()


def changed(model: mmalign.Aligner, other: mmalign.Aligner, tower: str) -> set[str]:
    before = weights_of(other, tower)
    assert before.keys() == weights_of(model, tower).keys()
    return {key for key, value in weights_of(model, tower).items() if not torch.equal(value, before[key])}


@pytest.fixture(scope="module")
def untrained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> mmalign.Aligner:
    return run(folder, tmp_path_factory.mktemp("run"), "--trainer.max_epochs=0")


def test_zero_shot_classes_are_those_of_open_clip(folder: Path, untrained: mmalign.Aligner) -> None:
    """The task zero-shot on real pictures, against open_clip's own classifier."""
    result = evaluate(untrained, DataConfig("digits"), "zero-shot", pair=BOTH, bootstrap=0)
    data = mmalign.Dataset.open(DataConfig("digits"), untrained.modalities, splits=["validation"])
    split = data.split("validation")
    samples = [*split.samples("image")]
    names = result.details["classes"]
    model = theirs(folder)
    with torch.no_grad():
        classifier = open_clip.build_zero_shot_classifier(
            model, open_clip.SimpleTokenizer(context_length=12), names, ["{}"]
        )
        normalise: Any = untrained.encoders["image"].normalise
        transform = untrained.transforms["image"]
        pixels = normalise(transform.collate([transform.item(sample) for sample in samples])["pixels"])
        expected = model.logit_scale.exp() * model.encode_image(pixels, normalize=True) @ classifier
    a, b = untrained.encode("image", samples), untrained.encode("text", names)
    logits = untrained.logit_scale(*BOTH) * untrained.similarity(a, b)
    torch.testing.assert_close(logits, expected, atol=37 * 1e-5, rtol=0)
    assert result.details["predicted"].tolist() == expected.argmax(1).tolist()


def test_siglip_keeps_its_scale_and_bias(folder: Path, tmp_path: Path) -> None:
    flags = ["--model.pairs.0.objective=siglip", "--trainer.max_epochs=0"]
    model = run(folder, tmp_path, *flags, name="siglip")
    assert model.logit_scale(*BOTH) == pytest.approx(37.0, rel=1e-5)
    assert model.logit_bias(*BOTH) == pytest.approx(-7.5, rel=1e-5)
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        a = model.embed("image", {"pixels": pixels})
        b = model.encode("text", DIGITS)
        ours = model.logit_scale(*BOTH) * model.similarity(a, b) + model.logit_bias(*BOTH)
        tokens = open_clip.SimpleTokenizer(context_length=12)(DIGITS)
        normalise: Any = model.encoders["image"].normalise
        expected = theirs(folder, "siglip").get_logits(normalise(pixels), tokens)[0]
    torch.testing.assert_close(ours, expected, atol=37 * 1e-5, rtol=0)


def test_fine_tuning_changes_both_towers(folder: Path, untrained: mmalign.Aligner, tmp_path: Path) -> None:
    model = run(folder, tmp_path, "--model.towers.text.lr_scale=0.0")
    assert changed(model, untrained, "image")
    assert not changed(model, untrained, "text")  # its learning rate is 0


def test_lit_trains_the_text_tower(folder: Path, untrained: mmalign.Aligner, tmp_path: Path) -> None:
    model = run(folder, tmp_path, "--model.towers.image.freeze=true")
    assert not changed(model, untrained, "image")
    assert changed(model, untrained, "text")


def test_a_linear_probe_starts_at_the_model_and_trains_one_layer(
    folder: Path, untrained: mmalign.Aligner, tmp_path: Path
) -> None:
    flags = ["--model.towers.image.freeze=true", "--model.towers.text.freeze=true"]
    flags += ["--model.towers.image.head=identity_init"]
    start = run(folder, tmp_path / "start", *flags, "--trainer.max_epochs=0")
    pixels = {"pixels": torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)}
    with torch.no_grad():
        torch.testing.assert_close(start.embed("image", pixels).vector, untrained.embed("image", pixels).vector)
    model = run(folder, tmp_path / "trained", *flags, "--model.optimizer.lr=0.01")
    assert not changed(model, untrained, "image") | changed(model, untrained, "text")
    assert not torch.equal(model.heads["image"].vector.layers.weight, torch.eye(12))  # type: ignore[union-attr]


def test_lora_bundles_are_merged_and_checkpoints_keep_the_adapters(
    folder: Path, untrained: mmalign.Aligner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    flags = ["--model.towers.image.lora.rank=2", "--model.towers.text.lora={rank: 2, targets: ['*.mlp.*']}"]
    model = run(folder, tmp_path, *flags, "--model.optimizer.lr=0.01")
    for tower, layers in (("image", {"attn.in_proj_weight", "mlp.c_fc.weight", "mlp.c_proj.weight"}), ("text", None)):
        expected = layers or {"mlp.c_fc.weight", "mlp.c_proj.weight"}
        resblocks = {f"tower.transformer.resblocks.{i}.{layer}" for i in range(2) for layer in expected}
        assert changed(model, untrained, tower) == resblocks
    saved = bundle_from_checkpoint(tmp_path / "checkpoints" / "last.ckpt", tmp_path / "again")
    again = mmalign.load(saved)
    assert not changed(again, model, "image") | changed(again, model, "text")
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert any("lora_A" in key for key in checkpoint["state_dict"])
    train("image-text/open_clip", ["--resume", f"--out={tmp_path}", "--trainer.max_epochs=2"])
    assert changed(mmalign.load(tmp_path), model, "image")
    # A bundle needs no peft.
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    mmalign.load(tmp_path)


def test_lora_with_averaged_weights_chunks_and_low_precision(
    folder: Path, untrained: mmalign.Aligner, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    flags = ["--model.towers.image.lora.rank=2", "--model.towers.text.lora.rank=2", "--model.optimizer.lr=0.01"]
    plain = run(folder, tmp_path / "plain", *flags)
    chunked = run(folder, tmp_path / "chunk", *flags, "--model.towers.image.chunk=8", "--model.towers.text.chunk=8")
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(chunked.state_dict()[key], value, atol=1e-5, rtol=1e-4)
    for name, other in (("ema", "--ema=0.5"), ("bf16", "--trainer.precision=bf16-mixed")):
        model = run(folder, tmp_path / name, *flags, other)
        assert changed(model, untrained, "image") == changed(plain, untrained, "image")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.towers.image.lr=1e-4"], r"image\.lr: no such key; did you mean --model.towers.image.lr_scale"),
        (
            ["--model.encoder_args.open_clop.model=ViT-B-32"],
            "no tower has an encoder 'open_clop'; did you mean 'open_clip'",
        ),
        (["--model.pairs.0.scale_from=imag"], "no tower 'imag'; did you mean 'image'"),
        (["--model.pairs.0.objective=pcmepp", "--model.pairs.0.scale_from=image"], "has no learnt scale of cosines"),
        (["--model.towers.image.lora.rang=8"], r"lora\.rang: no such key; did you mean .*lora\.rank"),
        (["--model.towers.image.lora.rank=0"], "expected rank >= 1"),
        (["--model.towers.image.lora.targets=['*.mlp.c_fx']"], r"no layer matches '\*\.mlp\.c_fx'; near: .*mlp.c_fc"),
        (["--model.towers.image.lora={rank: 2, dropout: 0.1}"], r"lora\.dropout: expected 0"),
        (["--model.towers.image.lora.rank=2", "--model.towers.image.freeze=true"], "leave freeze out"),
        (["--model.dim=16"], "set model.dim 12, or null"),
        (["--model.towers.image.head=linear", "--model.towers.text.head=linear"], "model.dim: null needs encoders"),
    ],
)
def test_invalid_settings_are_named(folder: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train("image-text/open_clip", arguments(folder, tmp_path, *flags))
    assert "\n" not in str(caught.value)


def test_a_tower_without_a_scale_is_named(folder: Path, tmp_path: Path) -> None:
    flags = [
        "--model.pairs.0.scale_from=text",
        "--model.towers.text.encoder=transformer",
        "--model.towers.text.head=linear",
    ]
    with pytest.raises(UserError, match="of no model with a learnt scale"):
        train("image-text/open_clip", arguments(folder, tmp_path, *flags))


class Hostile:
    """Runs a program when it is unpickled without care."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_weights_that_would_run_code_are_refused(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "clip.safetensors")
    torch.save({"state_dict": state}, tmp_path / "plain.pt")
    flags = ["--trainer.max_epochs=0", f"--model.encoder_args.open_clip.pretrained={tmp_path / 'plain.pt'}"]
    assert not changed(run(folder, tmp_path / "run", *flags), run(folder, tmp_path / "same", flags[0]), "text")
    torch.save({"state_dict": state, "epoch": Hostile(tmp_path / "ran")}, tmp_path / "hostile.pt")
    flags[1] = f"--model.encoder_args.open_clip.pretrained={tmp_path / 'hostile.pt'}"
    with pytest.raises(UserError, match="cannot read weights from"):
        run(folder, tmp_path / "hostile", *flags)
    assert not (tmp_path / "ran").exists()
