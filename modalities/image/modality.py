"""The image modality: what the core calls."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from mmalign.capabilities import TokenLabels
from mmalign.errors import UserError
from mmalign.modality import Encoder, Modality, Transform
from mmalign.types import Inputs
from modalities.common.sources.toy_classes import COLOURS, colour_and_shape
from modalities.image.augment import Pixels
from modalities.image.encoders.convnet import ConvNet
from modalities.image.encoders.feature_linear import FeaturesTransform, ImageFeatureLinear, Measures
from modalities.image.encoders.huggingface_dual import HuggingFaceDualImage, dual_image_settings
from modalities.image.encoders.open_clip import OpenClipImage, open_clip_settings
from modalities.image.encoders.timm import TimmImage, timm_settings
from modalities.image.encoders.vit import ViT
from modalities.image.mixup import mix_pixels
from modalities.image.perturb import PERTURBATIONS, perturb_image
from modalities.image.picture import lit
from modalities.image.read import read_image
from modalities.image.transform import ImageSettings, ImageTransform, Square

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ImageModality(Modality):
    """Pictures."""

    name = "image"
    description = "PNG, JPEG, WebP or TIFF pictures; a sample is an array (height, width, 3) uint8"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "convnet": ConvNet,
        "vit": ViT,
        "timm": TimmImage,
        "open_clip": OpenClipImage,
        "huggingface_dual": HuggingFaceDualImage,
        "features": ImageFeatureLinear,
    }
    perturbations: ClassVar[Mapping[str, Sequence[float]]] = PERTURBATIONS
    cached_types: ClassVar[Sequence[type]] = (Square, Measures)
    reading_libraries: ClassVar[Sequence[str]] = ("pillow", "numpy")

    def read(self, source: Any) -> Pixels:
        """Decode, see `read_image`."""
        return read_image(source)

    def files_read(self, path: Path) -> Sequence[Path]:
        """The file alone."""
        return [path]

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> Transform:
        """The settings of the encoder's pretrained weights, overridden by the given ones."""
        wanted: dict[str, Any] = {}
        if encoder == "timm":
            wanted = timm_settings(encoder_args)
        elif encoder == "open_clip":
            wanted = open_clip_settings(encoder_args)
        elif encoder == "huggingface_dual":
            wanted = dual_image_settings(encoder_args)
        elif encoder_args.get("size") is not None:
            wanted = {"size": encoder_args["size"]}
        made = ImageSettings.make(wanted | settings)
        if encoder == "features":
            return FeaturesTransform.new(made, bool(encoder_args.get("network")))
        return ImageTransform(made)

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From the transform's `config()`."""
        if "statistics" in config:
            return FeaturesTransform.restore(config)
        return ImageTransform(ImageSettings.make(config), sealed=True)

    def mix(self, inputs: Inputs, partners: Tensor, weight: Tensor) -> tuple[Inputs, Tensor]:
        """Mixup or CutMix, see `mix_pixels`.

        Raises:
            UserError: the encoder takes features of whole images.
        """
        if "measures" in inputs:
            raise UserError("mixup: the encoder 'features' of images takes no mixed images; choose another encoder")
        pixels, left = mix_pixels(inputs["pixels"], partners, weight)
        return {**inputs, "pixels": pixels}, left

    def perturb(
        self, sample: Pixels, transform: Transform, name: str, level: float, rng: np.random.Generator
    ) -> Pixels:
        """Noise, blur, JPEG, brightness, contrast; see `perturb_image`."""
        return perturb_image(sample, name, level, rng)

    def picture(self, sample: Pixels, axes: "Axes") -> None:
        """Show the picture."""
        axes.imshow(sample)
        axes.set_axis_off()

    def weighted_picture(self, sample: Pixels, axes: "Axes", weights: Sequence[float]) -> None:
        """Show the image, darker where weights are low; one weight for each cell of a square grid, row by row."""
        self.picture(lit(sample, weights), axes)

    def token_labels(
        self, sample: Pixels, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Patches of the encoder's input, if its tokens form a square grid."""
        grid = math.isqrt(count)
        if level != "tokens" or grid * grid != count:
            return None
        labels = [f"row {row + 1}, column {column + 1}" for row in range(grid) for column in range(grid)]
        return TokenLabels(labels, np.eye(count), shown=transform.item(sample))

    def toy_sample(self, label: int, rng: np.random.Generator) -> Pixels:
        """A disc or a square in one of five colours, at a random position on a noisy grey background, 48 x 48."""
        colour, shape = colour_and_shape(label)
        ground = Image.fromarray(rng.integers(90, 160, (48, 48, 3), dtype=np.uint8))
        edge = int(rng.integers(14, 26))
        left, top = (int(offset) for offset in rng.integers(0, 48 - edge, 2))
        draw = ImageDraw.Draw(ground)
        (draw.ellipse if shape == "disc" else draw.rectangle)(
            (left, top, left + edge, top + edge), fill=COLOURS[colour]
        )
        return np.asarray(ground)
