"""Dual encoders of transformers: towers, tokens, pixels, scale and bias equal those of the library."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmalign
from mmalign import registry
from mmalign.errors import UserError
from mmalign.training.run import train
from tests.tiny_models import save_dual_encoder

transformers = pytest.importorskip("transformers")

TEXTS = ["a red disc", "a green square of a picture", "blue"]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp(request.param)
    save_dual_encoder(request.param, path)
    return path


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(40, 33), (33, 40), (19, 60), (16, 16), (100, 37)]
    return [
        np.asarray(Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)).resize(shape, 3))
        for shape in shapes
    ]


def kind_of(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def test_equals_transformers(folder: Path) -> None:
    """Pixels, tokens and both vectors, against the library's own processor, tokenizer and model."""
    clip = kind_of(folder) == "clip"
    model = (transformers.CLIPModel if clip else transformers.SiglipModel).from_pretrained(folder).eval()
    processor = (transformers.CLIPImageProcessorPil if clip else transformers.SiglipImageProcessorPil).from_pretrained(
        folder
    )
    image, text = (registry.load("modalities", name) for name in ("image", "text"))
    args = {"model": str(folder)}
    transform = image.transform("huggingface_dual", args)
    encoder = image.encoder("huggingface_dual", transform, **args).eval()
    inputs = transform.collate([transform.item(sample) for sample in pictures()])
    pixels = processor(images=[Image.fromarray(sample) for sample in pictures()], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.normalise(inputs["pixels"]), pixels, atol=1e-5, rtol=0)
    words = text.transform("huggingface_dual", args)
    writer = text.encoder("huggingface_dual", words, **args).eval()
    collated = words.collate([words.item(one) for one in TEXTS])
    padding = True if clip else "max_length"
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=padding, return_tensors="pt")
    torch.testing.assert_close(collated["tokens"], tokens["input_ids"], atol=0, rtol=0)
    given = {"input_ids": tokens["input_ids"]} | ({"attention_mask": tokens["attention_mask"]} if clip else {})
    with torch.no_grad():
        torch.testing.assert_close(encoder(inputs).vector, model.get_image_features(pixel_values=pixels).pooler_output)
        torch.testing.assert_close(writer(collated).vector, model.get_text_features(**given).pooler_output)
    scale, bias = encoder.pretrained_logits()
    assert scale == pytest.approx(23.0)
    assert bias == (None if clip else pytest.approx(-8.5))
    assert writer.pretrained_logits() == (scale, bias)


def test_a_recipe_uses_it_and_its_bundle_loads_without_the_folder(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(folder, copied)
    objective = "clip" if kind_of(folder) == "clip" else "siglip"
    towers = [f"--model.towers.{name}.encoder=huggingface_dual" for name in ("image", "text")]
    flags = [
        f"--model.encoder_args.huggingface_dual.model={copied}",
        f"--model.pairs.0.objective={objective}",
    ]
    fast = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu"]
    train("image-text/open_clip", [*towers, *flags, *fast, f"--out={tmp_path / 'run'}"])
    before = mmalign.load(tmp_path / "run").encode("text", TEXTS).vector
    shutil.rmtree(copied)
    model = mmalign.load(tmp_path / "run")
    torch.testing.assert_close(model.encode("text", TEXTS).vector, before, atol=0, rtol=0)
    assert model.logit_scale("image", "text") == pytest.approx(23.0, rel=1e-3)
    assert str(copied) not in (tmp_path / "run" / "bundle" / "config.json").read_text()


def test_pickled_weights_and_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    args: dict[str, Any] = {"model": str(tmp_path / "model")}
    image = registry.load("modalities", "image")
    transform = image.transform("huggingface_dual", args)
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save({"x": torch.ones(1)}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot build the vision tower"):
        image.encoder("huggingface_dual", transform, **args)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config["text_config"], "model_type": "bert"}))
    with pytest.raises(UserError, match="is of type 'bert', expected clip or siglip"):
        image.encoder("huggingface_dual", transform, **args)
    (tmp_path / "model" / "preprocessor_config.json").unlink(missing_ok=True)
    (tmp_path / "model" / "processor_config.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="has no image processor"):
        image.transform("huggingface_dual", args)
