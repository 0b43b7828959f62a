"""Padding changes nothing, motion is seen, and the convolution over time is one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.modality import Encoder
from modalities.common.encoders.temporal_pooling import TemporalPool
from modalities.echo import MODALITY
from modalities.echo.encoders.r2plus1d import OverTime
from modalities.echo.picture import draw_strip
from modalities.echo.sample import Echo
from modalities.image import MODALITY as IMAGE

ARGS: dict[str, dict[str, Any]] = {
    "frames": {"width": 8, "depths": [1, 1]},
    "r2plus1d": {"width": 8, "depths": [1, 1, 1]},
    "image": {"tower": "vit", "args": {"width": 16, "depth": 1, "heads": 2}, "pool": "attention", "layers": 1},
}


def build(name: str, frames: int = 16, **settings: Any) -> tuple[Any, Encoder]:
    transform = MODALITY.transform(name, ARGS[name], **({"size": 32, "frames": frames} | settings))
    torch.manual_seed(0)
    return transform, MODALITY.encoder(name, transform, **ARGS[name]).eval()


def short(heart: Echo, count: int) -> Echo:
    return Echo(heart.frames[: 2 * count], heart.rate)  # 30 frames a second, of which the transform takes 15


@pytest.mark.parametrize("name", ARGS)
@pytest.mark.parametrize("count", [1, 5, 9, 10])
def test_the_amount_of_padding_changes_nothing(name: str, count: int, heart: Echo) -> None:
    clip, made = short(heart, count), []
    for frames in (count, count + 1, 16, 23):
        transform, encoder = build(name, frames)
        inputs = transform.collate([transform.item(clip)])
        assert int(inputs["mask"].sum()) == count
        with torch.no_grad():
            made.append(encoder(inputs))
    for one in made[1:]:
        torch.testing.assert_close(one.vector, made[0].vector, atol=1e-5, rtol=1e-4)
        real = one.tokens.values[one.tokens.mask]
        torch.testing.assert_close(real, made[0].tokens.values[made[0].tokens.mask], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ARGS)
def test_masked_frames_do_not_change_the_embedding(name: str, heart: Echo) -> None:
    transform, encoder = build(name)
    inputs = transform.collate([transform.item(short(heart, 9))])
    filled = {**inputs, "frames": inputs["frames"].masked_fill(~inputs["mask"][..., None, None], 77)}
    torch.testing.assert_close(encoder(filled).vector, encoder(inputs).vector, atol=0, rtol=0)


@pytest.mark.parametrize("name", ARGS)
def test_the_order_of_frames_matters(name: str, heart: Echo) -> None:
    transform, encoder = build(name)
    inputs = transform.collate([transform.item(heart)])
    mixed = {**inputs, "frames": inputs["frames"][:, torch.randperm(16)]}
    assert not torch.allclose(encoder(mixed).vector, encoder(inputs).vector, atol=1e-4)


def test_tokens_are_frames_or_stretches_of_them(heart: Echo) -> None:
    for name, count in (("frames", 16), ("image", 16), ("r2plus1d", 4)):
        transform, encoder = build(name)
        features = encoder(transform.collate([transform.item(heart)]))
        assert features.tokens.values.shape == (1, count, encoder.token_width)
        units = MODALITY.token_labels(heart, transform, encoder, "tokens", count)
        assert len(units.labels) == units.members.shape[0] == units.members.shape[1] == count
        assert units.labels[:2] == ["0.00 s", "0.07 s" if count == 16 else "0.27 s"]
        assert units.shown.frames.shape == (16, 32, 32)
    assert MODALITY.token_labels(heart, transform, encoder, "parts", 4) is None


def test_over_time_equals_a_three_dimensional_convolution() -> None:
    """Against torch's own in three dimensions, on the real frames."""
    torch.manual_seed(0)
    layer = OverTime(6, 8)
    layer.norm = torch.nn.Identity()
    clips, mask = torch.randn(2, 7, 6, 3, 5), torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    weight = layer.mix.weight.view(8, 3, 6).permute(0, 2, 1)[..., None, None]  # (out, in, time, 1, 1)
    for stride in (1, 2):
        layer.stride = stride
        found = layer(clips.flatten(0, 1), mask).unflatten(0, (2, -1))
        for row, count in ((0, 7), (1, 4)):
            alone = clips[row, :count].transpose(0, 1)[None]  # (1, channels, time, height, width)
            expected = F.conv3d(alone, weight, stride=(stride, 1, 1), padding=(1, 0, 0))[0].transpose(0, 1)
            torch.testing.assert_close(found[row, : len(expected)], expected)


def test_an_image_tower_receives_each_frame_as_a_grey_picture(heart: Echo) -> None:
    """The mean of its own vectors of the frames, with the settings of the echo transform."""
    args = {"tower": "convnet", "args": {"width": 4, "depths": [1]}}
    transform = MODALITY.transform("image", args, size=32)
    encoder = MODALITY.encoder("image", transform, **args).eval()
    made = transform.item(heart)
    same = {"size": 32, "mean": [0.13] * 3, "std": [0.2] * 3}
    pictures = IMAGE.transform("convnet", {}, **same)
    tower = IMAGE.encoder("convnet", pictures, **args["args"]).eval()
    tower.load_state_dict(encoder.tower.state_dict())
    vectors = tower(pictures.collate([pictures(np.repeat(frame[..., None], 3, 2)) for frame in made["frames"]])).vector
    features = encoder(transform.collate([made]))
    torch.testing.assert_close(features.tokens.values[0], vectors)
    torch.testing.assert_close(features.vector[0], vectors.mean(0))


def test_an_image_tower_uses_the_settings_of_its_weights(heart: Echo, tmp_path: Path) -> None:
    tiny = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    tiny_clip = tmp_path / "tiny.json"
    tiny_clip.write_text(json.dumps(tiny))
    args = {"tower": "open_clip", "args": {"model": str(tiny_clip)}}
    transform = MODALITY.transform("image", args)
    assert transform.settings.size == 16
    assert transform.settings.crop == "centre"
    assert transform.settings.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert MODALITY.transform("image", args, crop="pad").settings.crop == "pad"
    encoder = MODALITY.encoder("image", transform, **args).eval()
    sealed = MODALITY.restore_transform(transform.config())
    again = MODALITY.encoder("image", sealed, **encoder.config()).eval()
    again.load_state_dict(encoder.state_dict())
    inputs = transform.collate([transform.item(heart)])
    torch.testing.assert_close(again(inputs).vector, encoder(inputs).vector, atol=0, rtol=0)
    with pytest.raises(UserError, match="size"):
        MODALITY.encoder("image", MODALITY.transform("image", args, size=32), **args)


def test_a_bundle_contains_its_own_weights() -> None:
    sealed = MODALITY.restore_transform(MODALITY.transform("frames", {}, size=32).config())
    with pytest.raises(UserError, match="brings its own weights"):
        MODALITY.encoder("image", sealed, tower="timm", args={"model": "resnet10t", "pretrained": True})


@pytest.mark.parametrize("name", ["frames", "r2plus1d"])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(name: str) -> None:
    transform, encoder = build(name)
    items = [transform.item(MODALITY.toy_sample(label, np.random.default_rng(label))) for label in range(4)]
    gradients = []
    for pieces in ([items], [items[:1], items[1:]]):
        encoder.zero_grad()
        for piece in pieces:
            (encoder.train()(transform.collate(piece)).vector ** 3).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("frames", {"depths": []}, "depths"),
        ("frames", {"width": 1}, "width"),
        ("frames", {"pool": "max"}, "pool"),
        ("frames", {"layers": -1}, "layers"),
        ("frames", {"heads": 5}, "heads"),
        ("frames", {"heads": 5, "layers": 0}, "heads"),
        ("r2plus1d", {"depths": [1, 0]}, "depths"),
        ("r2plus1d", {"halvings": -1}, "halvings"),
        ("r2plus1d", {"halvings": 4}, "halvings"),
        ("image", {"tower": "resnet"}, "tower must be one of"),
        ("image", {"args": {"widht": 3}}, "widht"),
    ],
)
def test_invalid_arguments_are_errors(name: str, args: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MODALITY.encoder(name, MODALITY.transform(name, {}, size=32), **args)


def test_a_tower_that_does_not_exist_is_refused_before_any_data() -> None:
    with pytest.raises(UserError, match="tower must be one of"):
        MODALITY.transform("image", {"tower": "resnet"})


def test_a_mean_over_real_frames_against_a_loop() -> None:
    values, mask = torch.randn(3, 5, 4), torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] + [False] * 4])
    found = TemporalPool(4, pool="mean", layers=0, heads=1)(values, mask)
    expected = torch.stack([row[real].mean(0) for row, real in zip(values, mask, strict=True)])
    torch.testing.assert_close(found.vector, expected)
    torch.testing.assert_close(found.tokens.values, values)


@pytest.mark.parametrize("label", range(10))
def test_a_synthetic_heart_contracts_by_the_fraction_of_its_class(label: int) -> None:
    """The dark inside of the strong ones changes more than that of the weak ones, and large ones are larger."""

    def dark(label: int) -> np.ndarray:
        clip = MODALITY.toy_sample(label, np.random.default_rng(label)).frames.astype(float)
        return (clip[:, 16:48, 22:42] < 60).mean((1, 2))

    area = dark(label)
    change = (np.quantile(area, 0.95) - np.quantile(area, 0.05)) / np.quantile(area, 0.95)
    kind = label % 5
    assert change > 0.25 if kind in (1, 3) else change < 0.6
    if kind == 3:
        assert area.max() > dark(label + 1).max()


def drawn(**options: Any) -> Any:
    axes = Figure(figsize=(6, 2)).subplots()
    frames = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None] * 8, (30, 40, 50)).copy()
    draw_strip(Echo(frames, 15.0), axes, **options)
    axes.figure.canvas.draw()
    return axes


def test_the_strip_shows_frames_in_order_with_their_times() -> None:
    axes = drawn(count=4)
    strip = np.asarray(axes.images[0].get_array())
    assert [text.get_text() for text in axes.texts] == ["0.00 s", "0.60 s", "1.27 s", "1.93 s"]
    assert strip[20, [25, 76, 127, 178]].tolist() == [0, 72, 152, 232]
    assert len(drawn(count=99).texts) == 30


def test_weights_shade_the_interval_of_their_frame() -> None:
    shades = [bar.get_alpha() for bar in drawn(count=4, weights=[0.5, 1.0]).collections]
    assert shades == [0.5, 0.5, 1.0, 1.0]
    assert [bar.get_alpha() for bar in drawn(count=2, weights=[0.0, 0.0]).collections] == [0, 0]
    assert not drawn(count=4).collections


@pytest.mark.parametrize("weights", [[], [-1.0, 1.0], [float("nan")], [[1.0]]])
def test_invalid_weights(weights: object) -> None:
    with pytest.raises(UserError, match="weights"):
        drawn(weights=weights)
