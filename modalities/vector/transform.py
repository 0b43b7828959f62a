"""Vectors to a batch; the width is learnt once and held ever after."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from mmalign.errors import BadSample, UserError
from mmalign.modality import Transform
from mmalign.types import Inputs
from modalities.vector.read import Vector


class VectorTransform(Transform):
    """Checks the width, adds noise in training if asked to, and stacks.

    Args:
        width: Numbers in a vector; None = what `fit` sees.
        noise: Standard deviation of the normal noise that training adds.

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

    def __init__(self, width: int | None = None, noise: float = 0.0) -> None:
        if width is not None and (not isinstance(width, int) or width < 1):
            raise UserError(f"vector: width must be a positive integer, got {width!r}")
        if noise < 0:
            raise UserError(f"vector: noise must not be negative, got {noise}")
        self._width, self.noise = width, noise

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        if self._width is None:
            raise UserError("the width of the vectors is not known yet: call fit, or give args: {width: ...}")
        return self._width

    def fit(self, samples: Iterable[Vector]) -> None:
        """Learn the width, and hold every sample to it.

        Raises:
            UserError: two samples differ in width, or there is none and no width was given.
        """
        for place, sample in enumerate(samples):
            if self._width is None:
                self._width = len(sample)
            if len(sample) != self._width:
                raise UserError(
                    f"vectors must have one width: training sample {place} has {len(sample)}, expected {self._width}"
                )
        if self._width is None:
            raise UserError("no vectors to learn the width from: give args: {width: ...}")

    def __call__(self, sample: Vector, rng: np.random.Generator | None = None) -> Vector:
        """Check the width; with `rng`, add noise."""
        if len(sample) != self.width:
            raise BadSample("vector", f"{self.width} numbers", str(len(sample)))
        if rng is None or not self.noise:
            return sample
        return sample + rng.normal(0, self.noise, len(sample)).astype(np.float32)

    def collate(self, items: Sequence[Vector]) -> Inputs:
        """Stack."""
        return {"values": torch.from_numpy(np.stack(items))}

    def config(self) -> dict[str, Any]:
        """The arguments, width included."""
        return {"width": self.width, "noise": self.noise}
