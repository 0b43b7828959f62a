"""The recipe image-text/open_clip on ViT-B-32 and RN50 with random weights: equal to open_clip before training.

With few layers; with all of them, the tests are slow.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import mmalign
from mmalign.training.run import train

open_clip = pytest.importorskip("open_clip")

SCALE = 42.0
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def recipe(name: str, weights: Path, out: Path, *flags: str) -> mmalign.Aligner:
    shared = [f"--model.encoder_args.open_clip.model={name}", f"--model.encoder_args.open_clip.pretrained={weights}"]
    train("image-text/open_clip", [*shared, "--trainer.max_epochs=0", f"--out={out}", *flags])
    return mmalign.load(out)


def pictures() -> list[Image.Image]:
    """Photograph-like pictures of several shapes: smooth noise."""
    rng = np.random.default_rng(0)
    shapes = [(300, 413), (256, 256), (517, 225)]
    small = [rng.integers(0, 256, (9, 12, 3), dtype=np.uint8) for _ in shapes]
    return [Image.fromarray(s).resize(shape, Image.Resampling.BICUBIC) for s, shape in zip(small, shapes, strict=True)]


@pytest.mark.parametrize("layers", ["few", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_equal_to_open_clip_before_training(
    name: str, layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layers == "few":
        few = open_clip.get_model_config(name)
        few["vision_cfg"]["layers"], few["text_cfg"]["layers"] = {"ViT-B-32": 2, "RN50": [1, 1, 1, 1]}[name], 2
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, few)
    torch.manual_seed(0)
    theirs, _, preprocess = open_clip.create_model_and_transforms(name)
    theirs.eval()
    assert (len(theirs.transformer.resblocks) == 2) == (layers == "few")
    with torch.no_grad():
        theirs.logit_scale.fill_(np.log(SCALE))
    weights = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in theirs.state_dict().items()}, weights)
    model = recipe(name, weights, tmp_path / "run")
    images, tokenizer = pictures(), open_clip.get_tokenizer(name)
    transform: Any = model.transforms["image"]
    pixels = [transform.item(model.modalities["image"].read(image)) for image in images]
    normalise: Any = model.encoders["image"].normalise
    ours = normalise(transform.collate(pixels)["pixels"])
    prepared = torch.stack([preprocess(image) for image in images])
    torch.testing.assert_close(ours, prepared, atol=1e-5, rtol=0)  # the same pixels, scaled in another order
    a, b = model.encode("image", images), model.encode("text", CLASSES)
    with torch.no_grad():
        image, text, scale = theirs(prepared, tokenizer(CLASSES))
    torch.testing.assert_close(a.vector, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(b.vector, text, atol=1e-5, rtol=0)
    assert model.logit_scale("image", "text") == pytest.approx(SCALE, abs=1e-4)
    logits = model.logit_scale("image", "text") * model.similarity(a, b)
    torch.testing.assert_close(logits, scale * image @ text.T, atol=SCALE * 1e-5, rtol=0)
