"""Linear encoder of hand-crafted image features with an optional network, and the transform that computes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.types import Features, Inputs
from modalities.common.encoders.feature_linear import FeatureLinear
from modalities.common.encoders.standardisation import Standard
from modalities.image.augment import Pixels
from modalities.image.encoders.convnet import ConvNet
from modalities.image.features.image_features import FAMILIES, WIDTH, image_features
from modalities.image.transform import ImageSettings, ImageTransform, Square

Item = dict[str, NDArray[Any]]
AUGMENTATION = ("random_crop", "flip_horizontal", "flip_vertical", "quarter_turns", "jitter")


@dataclass(frozen=True)
class Measures:
    """Features of an image, and what the network's pixels are made of (None without a network)."""

    values: NDArray[np.float32]
    image: Pixels | Square | None


class FeaturesTransform(Transform):
    """Image features (see `image_features`), standardised by the training images; with a network, also pixels.

    Features are those of the whole image, without augmentation; families are scaled to equal mean squared norm.

    Args:
        pixels: Makes the network's pixels, augmentation included; None without a network.
        statistics: `{"mean": [...], "sd": [...]}` of an earlier fit.

    Shape:
        `(height, width, 3)` uint8 -> `measures (batch, WIDTH)` float32, and with a network `pixels`.

    Example:
        >>> from modalities.image import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> images = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
        >>> transform.fit(map(transform.featurise, images))
        >>> transform.collate([transform.item(image) for image in images])["measures"].shape
        torch.Size([3, 1437])
    """

    def __init__(self, pixels: ImageTransform | None, statistics: Mapping[str, Sequence[float]] | None = None) -> None:
        self.pixels = pixels
        self.has_training_features = pixels is not None and pixels.has_training_features
        self._standard = Standard([family for family, count in FAMILIES.items() for _ in range(count)], statistics)

    @staticmethod
    def new(settings: ImageSettings, network: bool) -> "FeaturesTransform":
        """With the settings of the network's pixels.

        Raises:
            UserError: settings of augmentation without a network.
        """
        if network:
            return FeaturesTransform(ImageTransform(settings))
        augmented = [name for name in AUGMENTATION if getattr(settings, name) != getattr(ImageSettings, name)]
        if augmented:
            raise UserError(
                f"image transform: the encoder 'features' without a network has no augmentation; leave {augmented[0]} "
                "out, or add args: {network: 24}"
            )
        return FeaturesTransform(None)

    def featurise(self, sample: Pixels) -> Measures:
        """Measure the image."""
        return Measures(image_features(sample), None if self.pixels is None else self.pixels.featurise(sample))

    def featurise_for_training(self, sample: Pixels) -> Measures:
        """Measure the image; its pixels as random crops need them."""
        pixels = None if self.pixels is None else self.pixels.featurise_for_training(sample)
        return Measures(image_features(sample), pixels)

    def fit(self, features: Iterable[Measures]) -> None:
        """Fit mean and standard deviation of each feature, unless they were given."""
        if self._standard.statistics is None:
            self._standard.fit(one.values.astype(np.float64) for one in features)

    def __call__(self, features: Measures, rng: np.random.Generator | None = None) -> Item:
        """Standardise; make the network's square."""
        item: Item = {"measures": self._standard(features.values.astype(np.float64))}
        if self.pixels is not None and features.image is not None:
            item["pixels"] = self.pixels(features.image, rng)
        return item

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack."""
        inputs: Inputs = {"measures": torch.from_numpy(np.stack([item["measures"] for item in items]))}
        if self.pixels is not None:
            inputs |= self.pixels.collate([item["pixels"] for item in items])
        return inputs

    def config(self) -> dict[str, Any]:
        """The settings of the pixels and the fitted statistics."""
        pixels = None if self.pixels is None else self.pixels.config()
        return {"pixels": pixels, "statistics": self._standard.statistics}

    @staticmethod
    def restore(config: Mapping[str, Any]) -> "FeaturesTransform":
        """From `config()`."""
        pixels = config["pixels"]
        made = None if pixels is None else ImageTransform(ImageSettings.make(pixels), sealed=True)
        return FeaturesTransform(made, config["statistics"])


class ImageFeatureLinear(FeatureLinear):
    r"""A linear map of hand-crafted features: gradients, colours, patterns; optionally with a network beside it.

    .. math:: v = W m + \gamma \odot P\, \mathrm{network}(\mathrm{pixels})

    CCA initialisation (`model.cca_init`) sets W and closes the learnt gate; with about a thousand images this
    outperforms a network alone. The network sees augmented pixels; the features m are those of the whole image.

    Args:
        transform: A fitted `FeaturesTransform`.
        width: Size of the vector.
        network: Channels of the stem of a `convnet` beside the linear map; 0 = none, and no tokens.
        fixed: Do not train W, which CCA initialisation sets.

    Shape:
        `measures (batch, WIDTH)` -> vector `(batch, width)`; with a network also its tokens.

    Example:
        >>> from modalities.image import MODALITY
        >>> MODALITY.encoder("features", MODALITY.transform("features", {}), width=8).width
        8
    """

    def __init__(self, transform: Transform, *, width: int = 256, network: int = 0, fixed: bool = False) -> None:
        if not isinstance(transform, FeaturesTransform) or (transform.pixels is None) == bool(network):
            raise UserError(
                "image: the encoder 'features' needs its own transform: modality.transform('features', args) with the "
                "encoder's args"
            )
        super().__init__(width, positions=0, per_position=0, rest=WIDTH)
        self.arguments = {"width": width, "network": network, "fixed": fixed}
        self.table.requires_grad_(not fixed)
        self.network: ConvNet | None = None
        self.token_width = None
        if transform.pixels is not None:
            self.network = ConvNet(transform.pixels, width=network)
            self.project = nn.Linear(self.network.width, width)
            self.gate = nn.Parameter(torch.full((width,), 0.1))
            self.token_width = self.network.token_width

    def forward(self, inputs: Inputs) -> Features:
        """Encode a batch."""
        vector = inputs["measures"] @ self.table
        if self.network is None:
            return Features(vector)
        features = self.network(inputs)
        return Features(vector + self.gate * self.project(features.vector), features.tokens)

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set W, and close the gate."""
        super().set_linear_weights(weight)
        if self.network is not None:
            with torch.no_grad():
                self.gate.zero_()
