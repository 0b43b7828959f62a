"""Vector transform: check the width, add noise, stack."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmalign.errors import UserError
from mmalign.types import Inputs
from modalities.vector.fixed_width import FixedWidthTransform
from modalities.vector.read import Vector


class VectorTransform(FixedWidthTransform):
    """Check the width, optionally add noise in training, and stack.

    Args:
        width: Size of a vector; None = that of the training samples.
        noise: Standard deviation of Gaussian noise in training.

    Shape:
        item `(width,)` float32 -> `values (batch, width)`.

    Example:
        >>> import numpy as np
        >>> from modalities.vector.transform import VectorTransform
        >>> transform = VectorTransform()
        >>> transform.fit([np.zeros(3, dtype=np.float32)])
        >>> transform.width
        3
    """

    kind = "vector"

    def __init__(self, width: int | None = None, noise: float = 0.0) -> None:
        super().__init__(width)
        if noise < 0:
            raise UserError(f"vector: noise must not be negative, got {noise}")
        self.noise = noise

    def __call__(self, features: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Check the width; with `rng`, add noise."""
        sample = self.checked(features)
        if rng is None or not self.noise:
            return sample
        return sample + rng.normal(0, self.noise, len(sample)).astype(np.float32)

    def collate(self, items: Sequence[Vector]) -> Inputs:
        """Stack."""
        return {"values": torch.from_numpy(np.stack(items))}

    def config(self) -> dict[str, Any]:
        """The arguments, width included."""
        return {"width": self.width, "noise": self.noise}
