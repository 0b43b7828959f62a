"""The image encoders: our own, timm's, open_clip's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmalign.errors import UserError
from modalities.common.encoders.open_clip import describe
from modalities.image import MODALITY
from modalities.image.encoders.vit import sines

CLIP: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1},
}


def pixels(size: int, batch: int = 2) -> dict[str, torch.Tensor]:
    return {"pixels": torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)}


def build(encoder: str, args: dict[str, Any]) -> Any:
    return MODALITY.encoder(encoder, MODALITY.transform(encoder, args), **args).eval()


def test_sine_position_embeddings_equal_the_formula() -> None:
    table = sines(3, 8).reshape(3, 3, 8)
    for row in range(3):
        for column in range(3):
            for i in range(2):
                for half, place in ((0, row), (4, column)):
                    angle = place * 10000 ** (-4 * i / 8)
                    expected = torch.tensor([np.sin(angle), np.cos(angle)], dtype=torch.float32)
                    torch.testing.assert_close(table[row, column, [half + i, half + 2 + i]], expected)


def test_vit_tokens_are_the_patches_row_by_row() -> None:
    """With no layer to mix them, a change in one patch changes its own token only."""
    vit = build("vit", {"size": 16, "patch": 4, "width": 8, "depth": 0, "heads": 1})
    first = pixels(16, 1)
    second = {"pixels": first["pixels"].clone()}
    second["pixels"][:, :, 4:8, 8:12] = 255 - second["pixels"][:, :, 4:8, 8:12]  # row 1, column 2
    differ = (vit(first).tokens.values != vit(second).tokens.values).any(-1)[0]
    assert differ.nonzero().tolist() == [[1 * 4 + 2]]


def test_convnet_shapes_follow_its_arguments() -> None:
    net = build("convnet", {"size": 40, "width": 4, "depths": [1, 2, 1]})
    features = net(pixels(40))
    assert features.vector.shape == (2, 32)
    assert features.tokens.values.shape == (2, 3 * 3, 32)  # 40 -> 20 -> 10 -> 5 -> 3
    torch.testing.assert_close(features.vector, features.tokens.values.mean(1))


@pytest.mark.parametrize(
    ("encoder", "args", "message"),
    [
        ("vit", {"size": 30, "patch": 8}, "patch=8 and size=30"),
        ("vit", {"size": 32, "width": 18}, "multiple of 4"),
        ("vit", {"size": 32, "pool": "max"}, "mean or attention"),
        ("vit", {"size": 32, "width": 64, "heads": 3}, "heads must divide"),
        ("timm", {}, "needs the name of a model"),
        ("timm", {"model": "resnet10"}, "near: .*resnet10t"),
        ("timm", {"model": "hf-hub:someone/model"}, "no model"),
        ("timm", {"model": "resnet10t", "pretrained": "nowhere.pt"}, "no weights at nowhere.pt"),
        ("timm", {"model": "resnet10t", "args": {"no_such": 1}}, "no_such"),
        ("open_clip", {}, "needs a model"),
        ("open_clip", {"model": "ViT-B-33"}, "did you mean 'ViT-B-32'"),
        ("open_clip", {"model": "ViT-B-32", "pretrained": "laion2b"}, "has no weights 'laion2b'"),
        ("open_clip", {"model": "nowhere.json"}, "no open_clip description"),
        ("open_clip", {"model": CLIP, "pretrained": "nowhere.pt"}, "no weights at"),
        ("open_clip", {"model": {"embed_dim": 3}}, "needs 'vision_cfg'"),
        (
            "open_clip",
            {"model": {**CLIP, "vision_cfg": {"timm_model_name": "hf-hub:a/b", "image_size": 16}}},
            "must be a plain name",
        ),
    ],
)
def test_invalid_settings_are_named(encoder: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(encoder, args)
    assert "\n" not in str(caught.value)


def test_encoder_size_other_than_the_transforms_is_an_error() -> None:
    transform = MODALITY.transform("vit", {}, size=32)
    with pytest.raises(UserError, match="size 64, its transform makes 32"):
        MODALITY.encoder("vit", transform, size=64)


@pytest.mark.parametrize(
    ("model", "args", "places"),
    [
        ("test_resnet", {}, 2 * 2),
        ("test_vit", {"img_size": 64}, 16),
        ("test_convnext", {}, 2 * 2),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}, 64),
    ],
)
def test_timm_families(model: str, args: dict[str, Any], places: int) -> None:
    """Channels first, channels last, class tokens: tokens are places, the vector is timm's own."""
    transform = MODALITY.transform("timm", {"model": model, "args": args}, size=64)
    encoder = MODALITY.encoder("timm", transform, model=model, args=args).eval()
    inputs = pixels(64)
    features = encoder(inputs)
    assert features.tokens.values.shape == (2, places, encoder.token_width)
    assert features.vector.shape == (2, encoder.width)
    torch.testing.assert_close(features.vector, encoder.model(encoder.normalise(inputs["pixels"])))


def test_timm_weights_from_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    whole = timm.create_model("test_resnet", num_classes=1000).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    inputs = pixels(64)
    for file in ("w.safetensors", "w.pth"):
        encoder = build("timm", {"model": "test_resnet", "pretrained": str(tmp_path / file)})
        x = encoder.normalise(inputs["pixels"])
        expected = whole.forward_head(whole.forward_features(x), pre_logits=True)
        torch.testing.assert_close(encoder(inputs).vector, expected)
        assert encoder.config() == {"model": "test_resnet", "pretrained": False, "args": {}}


def test_timm_settings_are_those_of_the_weights() -> None:
    timm = pytest.importorskip("timm")
    settings = MODALITY.transform("timm", {"model": "vit_base_patch16_224.augreg_in21k"}).settings
    known = timm.get_pretrained_cfg("vit_base_patch16_224.augreg_in21k")
    assert (settings.size, settings.mean, settings.std) == (224, tuple(known.mean), tuple(known.std))
    assert settings.crop_ratio == known.crop_pct
    assert MODALITY.transform("timm", {"model": "resnet10t"}, size=64, jitter=0.1).settings.size == 64


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny open_clip model as a folder: description, preprocessing, weights."""
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("clip")
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash", "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": preprocess}))
    save_file(open_clip.CLIP(**CLIP).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def test_open_clip_tower_equals_open_clip(clip_folder: Path, tmp_path: Path) -> None:
    """Folder, JSON with a file, configuration with a file: one tower, that of open_clip's own factory."""
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    weights = str(clip_folder / "open_clip_model.safetensors")
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    (tmp_path / "model.json").write_text(json.dumps(CLIP))
    inputs = pixels(16)
    for args in (
        {"model": str(clip_folder)},
        {"model": f"local-dir:{clip_folder}"},
        {"model": str(tmp_path / "model.json"), "pretrained": weights},
        {"model": CLIP, "pretrained": str(tmp_path / "w.pt")},
    ):
        encoder = build("open_clip", args)
        with torch.no_grad():
            expected = theirs.encode_image(encoder.normalise(inputs["pixels"]))
            torch.testing.assert_close(encoder(inputs).vector, expected)
        assert encoder.config() == json.loads(json.dumps(encoder.config()))


def test_open_clip_transform_uses_the_preprocessing_of_the_model(clip_folder: Path) -> None:
    settings = MODALITY.transform("open_clip", {"model": str(clip_folder)}).settings
    assert (settings.size, settings.mean, settings.crop) == (16, (0.1, 0.2, 0.3), "squash")
    tagged = MODALITY.transform("open_clip", {"model": "ViT-B-16-SigLIP", "pretrained": "webli"}).settings
    assert (tagged.size, tagged.mean, tagged.crop) == (224, (0.5, 0.5, 0.5), "squash")
    plain = MODALITY.transform("open_clip", {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}).settings
    assert plain.mean == pytest.importorskip("open_clip").OPENAI_DATASET_MEAN


def test_weights_keep_the_activation_they_were_trained_with() -> None:
    """open_clip's entry for a tag says so, its entry for the model may not."""
    pytest.importorskip("open_clip")
    assert describe("ViT-B-32", "openai").model["quick_gelu"] is True
    assert not describe("ViT-B-32", "laion2b_s34b_b79k").model.get("quick_gelu", False)


@pytest.mark.parametrize(
    "vision",
    [
        {"image_size": 64, "layers": [1, 1, 1, 1], "width": 4, "head_width": 8},
        {"image_size": 64, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
        {"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"},
    ],
    ids=["resnet", "timm-vit", "timm-resnet"],
)
def test_open_clip_image_towers_of_every_kind(vision: dict[str, Any]) -> None:
    encoder = build("open_clip", {"model": {**CLIP, "vision_cfg": vision}})
    inputs = pixels(64)
    features = encoder(inputs)
    torch.testing.assert_close(features.vector, encoder.tower(encoder.normalise(inputs["pixels"])))
    assert features.vector.shape == (2, 12)
    assert features.tokens.values.shape[-1] == encoder.token_width


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    save_file({"something.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    for args in ({"model": CLIP}, {"model": "test_resnet"}):
        name = "timm" if args["model"] == "test_resnet" else "open_clip"
        with pytest.raises(UserError, match="not those of|lack"):
            build(name, {**args, "pretrained": str(tmp_path / "other.safetensors")})


def test_bundle_arguments_that_name_weights_are_refused(clip_folder: Path) -> None:
    """What comes from a bundle reads no path and asks no network, whatever its JSON says."""
    sealed = MODALITY.restore_transform(MODALITY.transform("convnet", {"size": 16}).config())
    weights = str(clip_folder / "open_clip_model.safetensors")
    for encoder, args in (
        ("timm", {"model": "test_resnet", "pretrained": weights}),
        ("timm", {"model": "test_resnet", "pretrained": True}),
        ("open_clip", {"model": str(clip_folder)}),
        ("open_clip", {"model": CLIP, "pretrained": weights}),
        ("open_clip", {"model": "ViT-B-32"}),
    ):
        with pytest.raises(UserError, match="a bundle"):
            MODALITY.encoder(encoder, sealed, **args)
