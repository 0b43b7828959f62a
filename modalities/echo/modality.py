"""The echo modality: what the core calls."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder, Modality, Transform
from modalities.common.encoders.image_tower import ImageTower, tower_settings
from modalities.common.reading.local_file import is_file
from modalities.echo.encoders.feature_linear import DEFAULTS, EchoFeatureLinear, MeasuredTransform
from modalities.echo.encoders.frame_cnn import Frames
from modalities.echo.encoders.r2plus1d import R2Plus1d
from modalities.echo.read import MAX_BYTES, read_echo
from modalities.echo.sample import Echo
from modalities.echo.synthetic import synthetic_echo
from modalities.echo.transform import EchoSettings, EchoTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class EchoModality(Modality):
    """Echocardiogram clips; a study of several clips is a record with several alternatives of this tower.

    Args:
        strict: Reject clips that would raise a warning; see `read_echo`.
    """

    name = "echo"
    max_file_bytes = MAX_BYTES
    description = "echocardiogram clips: AVI, MP4, DICOM, NPZ, NPY; a sample is grey frames and their rate"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "frames": Frames,
        "r2plus1d": R2Plus1d,
        "image": ImageTower,
        "features": EchoFeatureLinear,
    }

    cached_types: ClassVar[Sequence[type]] = (Echo,)
    reading_libraries: ClassVar[Sequence[str]] = ("av", "pydicom", "numpy")

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict

    def with_strict_reading(self) -> "EchoModality":
        """A copy that rejects clips with faults."""
        return EchoModality(strict=True)

    def read(self, source: Any) -> Echo:
        """Decode and check, see `read_echo`."""
        return read_echo(source, strict=self.strict)

    def files_read(self, path: Path) -> Sequence[Path]:
        """The clip, and the file with the rate beside an array."""
        beside = path.with_suffix(".json")
        return [path, beside] if path.suffix.lower() == ".npy" and is_file(beside) else [path]

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> EchoTransform:
        """The settings of an image encoder's weights or of the features, overridden by the given ones."""
        if encoder == "features":
            return MeasuredTransform(EchoSettings.make(DEFAULTS | settings))
        wanted = tower_settings(encoder_args) if encoder == "image" else {}
        return EchoTransform(EchoSettings.make(wanted | settings))

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From `EchoTransform.config()`."""
        if "statistics" in config:
            settings = {name: value for name, value in config.items() if name != "statistics"}
            return MeasuredTransform(EchoSettings.make(settings), config["statistics"])
        return EchoTransform(EchoSettings.make(config), sealed=True)

    def picture(self, sample: Echo, axes: "Axes") -> None:
        """Draw a strip of frames."""
        from modalities.echo.picture import draw_strip

        draw_strip(sample, axes)

    def weighted_picture(self, sample: Echo, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw a strip of frames over bars shaded by weight; one weight for each of equal segments of the clip."""
        from modalities.echo.picture import draw_strip

        draw_strip(sample, axes, weights=weights)

    def token_labels(
        self, sample: Echo, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """Time segments of the encoder's input, one per token."""
        stride = getattr(encoder, "stride", None)
        if level != "tokens" or stride is None or not isinstance(transform, EchoTransform):
            return None
        labels = [f"{index * stride / transform.settings.rate:.2f} s" for index in range(count)]
        return TokenLabels(labels, np.eye(count), shown=Echo(transform.item(sample)["frames"], transform.settings.rate))

    def toy_sample(self, label: int, rng: np.random.Generator) -> Echo:
        """One of ten synthetic hearts."""
        return synthetic_echo(label, rng)
