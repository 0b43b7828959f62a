"""Geometry, colour and randomness of the image transform."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmalign.data.caching.memory_size import nbytes
from mmalign.errors import UserError
from modalities.image import MODALITY
from modalities.image.augment import LUMA, jitter, random_box, turn
from modalities.image.transform import ImageSettings, ImageTransform, Normalise, Square


def make(**settings: Any) -> ImageTransform:
    return ImageTransform(ImageSettings.make(settings))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    sample = picture(32, 32)
    for crop in ("centre", "squash", "pad"):
        assert make(size=32, crop=crop)(sample) is sample
    np.testing.assert_array_equal(make(size=32, crop="shortest")(sample), sample)


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (100, 33), (500, 40), (7, 90), (64, 64)])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_agrees_with_open_clip(shape: tuple[int, int], mode: str) -> None:
    """The preprocessing that pretrained towers were measured with, by its own code."""
    open_clip = pytest.importorskip("open_clip")
    theirs = open_clip.image_transform(32, is_train=False, resize_mode=mode, mean=(0, 0, 0), std=(1, 1, 1))
    sample = picture(*shape)
    expected = theirs(Image.fromarray(sample)).permute(1, 2, 0).numpy() * 255
    crop = {"shortest": "shortest", "squash": "squash", "longest": "pad"}[mode]
    ours = make(size=32, crop=crop)(sample).astype(float)
    np.testing.assert_array_equal(ours, np.rint(expected))


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (100, 33), (500, 40), (7, 90), (64, 64)])
@pytest.mark.parametrize("ratio", [1.0, 0.875, 0.9, 0.95])
def test_shortest_is_resize_and_crop_of_torchvision(shape: tuple[int, int], ratio: float) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.Compose(
        [transforms.Resize(int(32 / ratio), transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32)]
    )
    sample = picture(*shape)
    expected = np.asarray(theirs(Image.fromarray(sample)))
    np.testing.assert_array_equal(make(size=32, crop="shortest", crop_ratio=ratio)(sample), expected)


def test_shortest_of_long_images_is_the_same_without_resizing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = picture(40, 1100)
    whole = make(size=32, crop="shortest")(sample).astype(int)
    monkeypatch.setattr("modalities.image.transform.MAX_ASPECT", 1)
    assert np.abs(make(size=32, crop="shortest")(sample).astype(int) - whole).max() <= 1


def test_timm_evaluates_with_the_same_pixels() -> None:
    timm = pytest.importorskip("timm")
    name = "vit_base_patch16_224.augreg_in21k"
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    sample = picture(300, 413)
    expected = timm.data.create_transform(**config, normalize=False)(Image.fromarray(sample))
    ours = MODALITY.transform("timm", {"model": name}).item(sample)
    np.testing.assert_array_equal(ours, expected.permute(1, 2, 0).numpy())


def test_centre_crop_keeps_the_middle() -> None:
    sample = np.zeros((30, 90, 3), dtype=np.uint8)
    sample[:, 30:60] = 255
    assert (make(size=30)(sample) == 255).all()
    assert (make(size=30, crop_ratio=0.5)(sample) == 255).all()
    squashed = make(size=30, crop="squash", interpolation="nearest")(sample)
    np.testing.assert_array_equal(squashed[0, :, 0], [0] * 10 + [255] * 10 + [0] * 10)
    padded = make(size=30, crop="pad", fill=7)(np.full((30, 90, 3), 200, dtype=np.uint8))
    np.testing.assert_array_equal(padded[:, 0, 0], [7] * 10 + [200] * 10 + [7] * 10)


@pytest.mark.parametrize("shape", [(48, 64), (200, 300), (300, 37), (32, 32)])
@pytest.mark.parametrize("crop", ["centre", "shortest", "squash", "pad"])
def test_evaluation_from_features_has_the_pixels_of_the_sample(shape: tuple[int, int], crop: str) -> None:
    for settings in ({}, {"random_crop": 0.5}, {"crop_ratio": 0.9}):
        transform, sample = make(size=32, crop=crop, **settings), picture(*shape)
        features = transform.featurise(sample)
        np.testing.assert_array_equal(transform(features), transform(sample))
        assert nbytes(features) <= sample.nbytes
        if sample.size > 3 * 32 * 32:
            assert isinstance(features, Square)
            assert features.pixels.base is None  # not a view of a larger image


def test_random_crops_of_reduced_pictures() -> None:
    """Reduced to the size at which the smallest crop has as many pixels as the square; the boxes are the same."""
    transform, sample = make(size=32, random_crop=0.5, random_aspect=1.5), picture(400, 90)
    reduced = transform.featurise_for_training(sample)
    assert reduced.shape == (56, 56, 3)  # 32 / sqrt(0.5 / 1.5), rounded up
    apart = []
    for seed in range(20):
        item = transform(reduced, np.random.default_rng(seed)).astype(int)
        direct = transform(sample, np.random.default_rng(seed)).astype(int)
        other = transform(sample, np.random.default_rng(seed + 100)).astype(int)
        assert np.abs(item - direct).mean() < 6
        apart.append(np.abs(item - other).mean())
        assert np.array_equal(transform.item(sample, np.random.default_rng(seed)), item)
    assert np.mean(apart) > 25
    small = picture(50, 56)
    assert transform.featurise_for_training(small) is small


def test_without_random_crops_training_starts_from_the_square() -> None:
    transform, sample = make(size=32, flip_horizontal=True, jitter=0.3), picture(200, 300)
    assert not transform.has_training_features
    for seed in range(5):
        expected = transform(sample, np.random.default_rng(seed))
        np.testing.assert_array_equal(transform(transform.featurise(sample), np.random.default_rng(seed)), expected)


def test_extreme_proportions_stay_cheap() -> None:
    for shape in ((1, 60_000, 3), (60_000, 1, 3)):
        for crop in ("centre", "shortest", "squash", "pad"):
            assert make(size=64, crop=crop)(np.zeros(shape, dtype=np.uint8)).shape == (64, 64, 3)
        item = make(size=64, random_crop=0.3)(np.zeros(shape, dtype=np.uint8), np.random.default_rng(0))
        assert item.shape == (64, 64, 3)


def test_without_settings_training_changes_nothing() -> None:
    transform, sample = make(size=24), picture(40, 60)
    np.testing.assert_array_equal(transform.item(sample, np.random.default_rng(0)), transform.item(sample))


@pytest.mark.parametrize(
    ("settings", "symmetries"),
    [
        ({"flip_horizontal": True}, 2),
        ({"flip_vertical": True}, 2),
        ({"flip_horizontal": True, "flip_vertical": True}, 4),
        ({"quarter_turns": True}, 4),
        ({"flip_horizontal": True, "quarter_turns": True}, 8),
    ],
)
def test_right_angle_turns_give_exactly_the_symmetries(settings: dict[str, bool], symmetries: int) -> None:
    sample = picture(16, 16)
    square = [np.rot90(side, k) for side in (sample, sample[:, ::-1]) for k in range(4)]
    allowed = {side.tobytes() for side in square}
    transform = make(size=16, **settings)
    seen = {np.ascontiguousarray(transform.item(sample, np.random.default_rng(i))).tobytes() for i in range(200)}
    assert seen <= allowed
    assert len(seen) == symmetries
    if settings == {"flip_horizontal": True}:
        assert seen == {sample.tobytes(), sample[:, ::-1].tobytes()}


def test_random_box_has_the_stated_distribution() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([random_box((80, 120), rng, scale=(0.25, 0.64), aspect=1.2) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 120
    assert bottom.max() <= 80
    share = (right - left) * (bottom - top) / (80 * 120)
    assert abs(share.mean() - (0.25 + 0.64) / 2) < 0.01
    assert 0.25 - 1e-9 <= share.min() < 0.26
    assert 0.63 < share.max() <= 0.64 + 1e-9
    stretch = (right - left) / (bottom - top) / 1.5
    assert 1 / 1.2 - 1e-9 <= stretch.min() < 0.85
    assert abs(np.log(stretch).mean()) < 0.01


def test_jitter_is_brightness_contrast_saturation() -> None:
    """Against the three steps, one after the other, in float64."""
    sample = picture(12, 12).clip(60, 190)
    brightness, contrast, saturation = np.random.default_rng(3).uniform(0.9, 1.1, 3)
    luma = LUMA.astype(np.float64)
    x = sample.astype(np.float64)
    x = saturation * x + (1 - saturation) * (x @ luma)[..., None]
    x = contrast * x + (1 - contrast) * (sample @ luma).mean()
    expected = np.rint(brightness * x).clip(0, 255)
    found = jitter(sample, np.random.default_rng(3), 0.1)
    assert np.abs(found - expected).max() <= 1
    np.testing.assert_array_equal(jitter(sample, np.random.default_rng(0), 0.0), sample)


def test_rotation_off_uses_no_random_numbers() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    turn(picture(8, 8), rng, horizontal=False, vertical=False, quarters=False)
    assert rng.bit_generator.state == before


def test_collate_and_normalise() -> None:
    transform = make(size=16, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.2])
    items = [picture(16, 16, seed) for seed in range(3)]
    pixels = transform.collate(items)["pixels"]
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 3, 16, 16)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    expected = (np.stack(items) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.2]
    found = Normalise(transform).double()(pixels).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
    assert not Normalise(transform).state_dict()


def test_config_round_trips_through_json() -> None:
    settings = {"size": 20, "mean": [0.1, 0.2, 0.3], "crop": "pad", "jitter": 0.3, "quarter_turns": True}
    config = json.loads(json.dumps(make(**settings).config()))
    assert {key: config[key] for key in settings} == settings
    assert ImageSettings.make(config) == ImageSettings.make(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be an integer in 1..4096"),
        ({"size": 32.0}, "expected a whole number as size"),
        ({"interpolation": "bicubik"}, "did you mean 'bicubic'"),
        ({"crop": "center"}, "did you mean 'centre'"),
        ({"mean": [0.5]}, "mean must be three numbers"),
        ({"std": [0.5, 0, 0.5]}, "std must be positive"),
        ({"random_crop": 1.2}, "random_crop must be in"),
        ({"random_aspect": 0.5}, "random_aspect must be at least 1"),
        ({"jitterr": 0.5}, "did you mean 'jitter'"),
    ],
)
def test_invalid_settings_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)
