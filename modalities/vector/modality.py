"""The vector modality: what the core calls."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Encoder, Modality, Transform
from modalities.common.sources.toy_classes import colour_and_shape
from modalities.vector.encoders import Identity, Mlp
from modalities.vector.read import Vector, read_vector
from modalities.vector.transform import VectorTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SYNTHETIC_WIDTH = 16


class VectorModality(Modality):
    """Precomputed embeddings."""

    name = "vector"
    description = "one vector per sample: lists, Parquet lists, .npy files, matrix.npy#row; a sample is float32"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {"identity": Identity, "mlp": Mlp}

    def read(self, source: Any) -> Vector:
        """Read, see `read_vector`."""
        return read_vector(source)

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> VectorTransform:
        """A transform with the width of the encoder's arguments or of the training samples."""
        for name in settings:
            if name != "noise":
                raise UserError(f"vector transform has no setting {name!r}{registry.nearest(name, ['noise'])}")
        return VectorTransform(encoder_args.get("width"), **settings)

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From `VectorTransform.config()`."""
        settings = {"width": config["width"], "noise": config["noise"]}
        return registry.settings(VectorTransform, settings, "vector transform")

    def picture(self, sample: Vector, axes: "Axes") -> None:
        """Draw the values as a line."""
        axes.plot(sample, linewidth=0.8)
        axes.axhline(0, color="grey", linewidth=0.5)

    def toy_sample(self, label: int, rng: np.random.Generator) -> Vector:
        """A direction for each class with Gaussian noise, of width 16."""
        colour_and_shape(label)
        direction = np.random.default_rng(label).normal(size=SYNTHETIC_WIDTH)
        return (direction + rng.normal(0, 0.3, SYNTHETIC_WIDTH)).astype(np.float32)
