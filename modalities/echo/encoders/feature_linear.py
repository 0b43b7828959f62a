"""Linear encoder of hand-crafted clip features, and the transform that computes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.errors import UserError
from mmalign.types import Inputs
from modalities.common.encoders.feature_linear import FeatureLinear
from modalities.common.encoders.standardisation import Standard
from modalities.echo.features.clip_features import CELL, GRID, WHOLE, measure
from modalities.echo.sample import Echo
from modalities.echo.transform import EchoSettings, EchoTransform, Item

DEFAULTS = {"rate": 25.0, "frames": 50, "size": 32}
"""Two seconds, one full beat at 30 per minute; small frames, because features are computed per cell."""

CELLS = GRID**2
MEASURES = CELL * CELLS + WHOLE


class MeasuredTransform(EchoTransform):
    """The frames of `EchoTransform`, then hand-crafted features, standardised by the training clips.

    Families (grey levels, movement, spectrum, lags, components) are brought to one mean squared length. What cannot be
    measured, as in a clip that is too short, is 0, the training mean.

    Args:
        settings: As for other encoders; size must be a multiple of 8.
        statistics: `{"mean": [...], "sd": [...]}` of an earlier fit.

    Shape:
        `Echo` -> item of `measures (185,)` float32: two of each of 64 cells, then those of the whole.

    Example:
        >>> from modalities.echo import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> hearts = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
        >>> transform.fit(map(transform.featurise, hearts))
        >>> transform.collate([transform.item(heart) for heart in hearts])["measures"].shape
        torch.Size([3, 185])
    """

    def __init__(self, settings: EchoSettings, statistics: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__(settings)
        if settings.size % GRID:
            raise UserError(
                f"echo transform: 'features' needs a size that is a multiple of {GRID}, got {settings.size}"
            )
        self._standard = Standard(MEASURES, statistics)

    @property
    def _augmented(self) -> bool:
        s = self.settings
        return bool(s.jitter or s.shift or s.rotation or s.gain)

    def featurise(self, sample: Echo) -> Echo | NDArray[np.float64]:
        """Features of the middle of the clip; with augmentation they are computed after it."""
        return sample if self._augmented else self._measured(sample)

    def fit(self, features: Iterable[Echo | NDArray[np.float64]]) -> None:
        """Fit mean and standard deviation of each feature, unless they were given."""
        if self._standard.statistics is None:
            self._standard.fit(map(self._measured, features))

    def __call__(self, features: Echo | NDArray[np.float64], rng: np.random.Generator | None = None) -> Item:
        """Make the item."""
        return {"measures": self._standard(self._measured(features, rng))}

    def _measured(
        self, features: Echo | NDArray[np.float64], rng: np.random.Generator | None = None
    ) -> NDArray[np.float64]:
        if isinstance(features, np.ndarray):
            return features
        item = super().__call__(features, rng)
        cells, whole = measure(item["frames"][item["mask"]], self.settings.rate)
        return np.concatenate([cells.ravel(), whole])

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack."""
        return {"measures": torch.from_numpy(np.stack([item["measures"] for item in items]))}

    def config(self) -> dict[str, Any]:
        """The settings and the fitted statistics."""
        return super().config() | {"statistics": self._standard.statistics}


class EchoFeatureLinear(FeatureLinear):
    """A linear map of hand-crafted clip features: brightness, amount and frequency of motion; tokens are 64 cells.

    Args:
        transform: A fitted `MeasuredTransform`.
        width: Size of the vector and of a token.

    Shape:
        `measures (batch, 185)` -> vector `(batch, width)`, tokens `(batch, 65, width)`.

    Example:
        >>> from modalities.echo import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> MODALITY.encoder("features", transform, width=8).token_width
        8
    """

    def __init__(self, transform: EchoTransform, *, width: int = 256) -> None:
        if not isinstance(transform, MeasuredTransform):
            raise UserError("echo: the encoder 'features' needs its own transform: modality.transform('features', {})")
        super().__init__(width, positions=CELLS, per_position=len(CELL), rest=len(WHOLE))
