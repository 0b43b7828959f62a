"""The encoder of hand-crafted image features, with and without a network."""

import numpy as np
import pytest
import torch

from mmalign.errors import UserError
from modalities.image import MODALITY
from modalities.image.encoders.feature_linear import FeaturesTransform, ImageFeatureLinear

IMAGES = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(8)]


def make(network: int = 0, fixed: bool = False, **settings: object) -> tuple[FeaturesTransform, ImageFeatureLinear]:
    args = {"width": 6, "network": network, "fixed": fixed}
    transform = MODALITY.transform("features", args, **settings)
    assert isinstance(transform, FeaturesTransform)
    transform.fit(map(transform.featurise, IMAGES))
    encoder = MODALITY.encoder("features", transform, **args)
    assert isinstance(encoder, ImageFeatureLinear)
    return transform, encoder.eval()


def test_vector_is_the_linear_map_at_gate_zero() -> None:
    transform, encoder = make(network=4, size=16)
    inputs = transform.collate([transform.item(image) for image in IMAGES])
    weight = torch.randn(inputs["measures"].shape[1], 6)
    assert not torch.equal(encoder(inputs).vector, inputs["measures"] @ encoder.table)
    encoder.set_linear_weights(weight)
    torch.testing.assert_close(encoder(inputs).vector, encoder.linear_features(inputs) @ weight)


def test_measures_have_mean_zero_and_families_of_equal_weight() -> None:
    transform, _ = make()
    measures = np.stack([transform.item(image)["measures"] for image in IMAGES])
    assert abs(measures.mean(0)).max() < 1e-5
    assert set(transform.item(IMAGES[0])) == {"measures"}


def test_augmentation_changes_the_pixels_and_not_the_features() -> None:
    transform, _ = make(network=4, size=16, random_crop=0.5, flip_horizontal=True)
    assert transform.has_training_features
    plain, one, two = (transform.item(IMAGES[0], rng) for rng in (None, *map(np.random.default_rng, (1, 2))))
    np.testing.assert_array_equal(plain["measures"], one["measures"])
    assert not np.array_equal(one["pixels"], two["pixels"])


def test_fixed_weights_are_not_trained() -> None:
    for fixed in (True, False):
        _, encoder = make(network=4, fixed=fixed, size=16)
        assert encoder.table.requires_grad == (not fixed)
        assert encoder.gate.requires_grad


def test_invalid_combinations_are_errors() -> None:
    with pytest.raises(UserError, match="without a network has no augmentation; leave flip_horizontal out"):
        make(flip_horizontal=True)
    with pytest.raises(UserError, match="needs its own transform"):
        MODALITY.encoder("features", MODALITY.transform("convnet", {}))
    with pytest.raises(UserError, match="needs its own transform"):
        MODALITY.encoder("features", MODALITY.transform("features", {}), network=8)
    transform, _ = make()
    with pytest.raises(UserError, match="takes no mixed images"):
        MODALITY.mix(transform.collate([transform.item(IMAGES[0])]), torch.tensor([0]), torch.tensor([0.5]))
