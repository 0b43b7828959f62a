"""Image transform: crop and resize to a square; the same code in training and inference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.registry import nearest
from mmalign.types import Inputs
from modalities.common.encoders.agreed import agreed
from modalities.image.augment import Pixels, jitter, random_box, turn

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CROPS = ("centre", "shortest", "squash", "pad")
MAX_ASPECT = 32
"""Aspect ratio up to which `crop: shortest` resizes the whole image, which bounds the memory for longer ones."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ImageSettings:
    """Settings of preprocessing and, off by default, training augmentation.

    Args:
        size: Side of the square input, in pixels.
        mean: Mean of red, green, blue on the scale 0..1, subtracted.
        std: Standard deviation of red, green, blue; divides the values.
        interpolation: nearest, bilinear, bicubic or lanczos.
        crop: Handling of images that are not square: centre (centre crop), shortest (resize the shorter side, then crop
            the centre at whole pixels: equal to `Resize` and `CenterCrop` of torchvision, as open_clip and timm
            evaluate), squash (change the aspect ratio) or pad (add bars of the colour `fill`).
        crop_ratio: Fraction of the shorter side that the crops centre and shortest keep.
        crop_floor: Round the corner of the crop `shortest` down, as image processors of Hugging Face do, instead of to
            the nearest pixel.
        fill: Grey level of the bars, 0..255.
        random_crop: Minimum fraction of the area that a random crop keeps in training; 1 = no random crop.
        random_aspect: Maximum change of aspect ratio of the random crop.
        flip_horizontal: Random horizontal flips with probability one half: not for letters and digits.
        flip_vertical: Random vertical flips with probability one half.
        quarter_turns: Random rotation by 0, 90, 180 or 270 degrees: for images without orientation, such as aerial
        tiles. jitter: Strength of random brightness, contrast and saturation, 0..1.
    """

    size: int = 64
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.25, 0.25, 0.25)
    interpolation: str = "bicubic"
    crop: str = "centre"
    crop_ratio: float = 1.0
    crop_floor: bool = False
    fill: int = 0
    random_crop: float = 1.0
    random_aspect: float = 4 / 3
    flip_horizontal: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Validate the settings."""
        if not isinstance(self.size, int) or not 1 <= self.size <= 4096:
            raise UserError(f"image transform: size must be an integer in 1..4096, got {self.size!r}")
        for name, choices in (("interpolation", FILTERS), ("crop", CROPS)):
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"image transform: {name} cannot be {value!r}{nearest(str(value), choices)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 3:
                raise UserError(f"image transform: {name} must be three numbers, got {values!r}")
            object.__setattr__(self, name, tuple(float(value) for value in values))  # lists come from YAML and JSON
        if min(self.std) < 1e-4:
            raise UserError(f"image transform: std must be positive, at least 0.0001, got {self.std}")
        for name, low in (("crop_ratio", 0.1), ("random_crop", 0.01), ("jitter", 0.0)):
            if not low <= getattr(self, name) <= 1:
                raise UserError(f"image transform: {name} must be in {low}..1, got {getattr(self, name)}")
        if self.random_aspect < 1:
            raise UserError(f"image transform: random_aspect must be at least 1, got {self.random_aspect}")

    @staticmethod
    def make(values: Mapping[str, Any]) -> "ImageSettings":
        """Build from a mapping; raises an error for unknown names."""
        return registry.settings(ImageSettings, values, "image transform")


@dataclass(frozen=True)
class Square:
    """The encoder's input without augmentation: `(size, size, 3)` uint8."""

    pixels: Pixels


class ImageTransform(Transform):
    """Crop, resize and, in training, augment. Values stay uint8 until the encoder's `Normalise`.

    Features are the square, or the sample if that is smaller. Random crops start from the sample, resized to the
    smallest size at which no crop is enlarged (and never enlarged itself).

    Args:
        settings: See `ImageSettings`.
        sealed: Loaded from a bundle: an encoder built for it reads no file and no network.

    Shape:
        `(height, width, 3)` uint8 -> item `(size, size, 3)` uint8 -> `pixels (batch, 3, size, size)` uint8.

    Example:
        >>> import numpy as np
        >>> from modalities.image.transform import ImageSettings, ImageTransform
        >>> transform = ImageTransform(ImageSettings(size=16))
        >>> item = transform.item(np.zeros((30, 40, 3), dtype=np.uint8))
        >>> transform.collate([item, item])["pixels"].shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, settings: ImageSettings, *, sealed: bool = False) -> None:
        self.settings, self.sealed = settings, sealed
        self.has_training_features = settings.random_crop < 1

    def featurise(self, sample: Pixels) -> Pixels | Square:
        """The square, or the sample if it has no more pixels."""
        if sample.size <= 3 * self.settings.size**2:
            return sample
        return Square(np.array(self._resize(sample)))  # not a view of a larger image

    def featurise_for_training(self, sample: Pixels) -> Pixels:
        """The sample, with each side at most as long as random crops need."""
        s = self.settings
        # The shortest side of a crop is this fraction of the sample's, see `random_box`.
        needed = math.ceil(s.size / math.sqrt(s.random_crop / s.random_aspect))
        height, width = sample.shape[:2]
        reduced = min(width, needed), min(height, needed)
        return _scale(sample, reduced, (0, 0, width, height), s.interpolation)

    def __call__(self, features: Pixels | Square, rng: np.random.Generator | None = None) -> Pixels:
        """Make the square."""
        s = self.settings
        pixels = features.pixels if isinstance(features, Square) else features
        if rng is not None and s.random_crop < 1:
            box = random_box(pixels.shape[:2], rng, scale=(s.random_crop, 1.0), aspect=s.random_aspect)
            pixels = _scale(pixels, (s.size, s.size), box, s.interpolation)
        elif not isinstance(features, Square):
            pixels = self._resize(pixels)
        if rng is None:
            return pixels
        pixels = turn(pixels, rng, horizontal=s.flip_horizontal, vertical=s.flip_vertical, quarters=s.quarter_turns)
        return jitter(pixels, rng, s.jitter) if s.jitter else pixels

    def _resize(self, sample: Pixels) -> Pixels:
        s = self.settings
        height, width = sample.shape[:2]
        if s.crop == "squash":
            return _scale(sample, (s.size, s.size), (0, 0, width, height), s.interpolation)
        if s.crop == "pad":
            factor = s.size / max(height, width)
            inner = max(1, round(width * factor)), max(1, round(height * factor))
            small = _scale(sample, inner, (0, 0, width, height), s.interpolation)
            if inner == (s.size, s.size):
                return small
            square = np.full((s.size, s.size, 3), s.fill, dtype=np.uint8)
            top, left = (s.size - inner[1]) // 2, (s.size - inner[0]) // 2
            square[top : top + inner[1], left : left + inner[0]] = small
            return square
        if s.crop == "shortest":
            return _resize_then_crop(sample, s)
        # Resize and crop in one step: only the cropped square is resampled, so that images of extreme aspect ratio cost
        # no more than others.
        edge = min(height, width) * s.size / int(s.size / s.crop_ratio)
        left, top = (width - edge) / 2, (height - edge) / 2
        return _scale(sample, (s.size, s.size), (left, top, left + edge, top + edge), s.interpolation)

    def collate(self, items: Sequence[Pixels]) -> Inputs:
        """Stack; the memory stays channels-last, which is fastest for convolutions on a CPU."""
        return {"pixels": torch.from_numpy(np.stack(items)).permute(0, 3, 1, 2)}

    def config(self) -> dict[str, Any]:
        """The settings."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.settings).items()
        }

    def checked_size(self, size: int | None) -> int:
        """The side of the square, checked against the encoder's argument.

        Raises:
            UserError: `size` is not this transform's.
        """
        return agreed(size, self.settings.size, "pictures of size {}")


class Normalise(nn.Module):
    """Normalise a uint8 batch on the device.

    Shape:
        `(batch, 3, size, size)` uint8 -> the same shape, floating point.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, transform: ImageTransform) -> None:
        super().__init__()
        # Not persistent: they belong to the transform, whose config is saved with the weights.
        for name in ("mean", "std"):
            values = torch.tensor(getattr(transform.settings, name)).view(1, 3, 1, 1) * 255
            self.register_buffer(name, values, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scale."""
        return (pixels.to(self.mean.dtype) - self.mean) / self.std


def _scale(sample: Pixels, size: tuple[int, int], box: tuple[float, float, float, float], interpolation: str) -> Pixels:
    """Resample the box (left, top, right, bottom) of an image to `size` (width, height)."""
    height, width = sample.shape[:2]
    if size == (width, height) and box == (0, 0, width, height):
        return sample
    return np.asarray(Image.fromarray(sample).resize(size, FILTERS[interpolation], box=box))


def _resize_then_crop(sample: Pixels, settings: ImageSettings) -> Pixels:
    """Resize the shorter side, then crop the centre, with the roundings of torchvision or Hugging Face."""
    size, interpolation = settings.size, settings.interpolation
    shorter = int(size / settings.crop_ratio)
    height, width = sample.shape[:2]
    long = int(shorter * max(height, width) / min(height, width))
    resized = (shorter, long) if width <= height else (long, shorter)
    left, top = ((side - size) // 2 if settings.crop_floor else round((side - size) / 2.0) for side in resized)
    if long <= MAX_ASPECT * shorter:
        return _scale(sample, resized, (0, 0, width, height), interpolation)[top : top + size, left : left + size]
    # The same pixels, up to the rounding of the box to float32, without resampling the rest of the image.
    across, down = width / resized[0], height / resized[1]
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return _scale(sample, (size, size), box, interpolation)
