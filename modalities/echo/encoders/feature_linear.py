"""An encoder whose vector is a linear map of a clip's measures, and the transform that takes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmalign.errors import UserError
from mmalign.modality import Encoder
from mmalign.types import Features, Inputs, Tokens
from modalities.common.standardisation import Standard, summed_tokens
from modalities.echo.features.clip_features import CELL, GRID, WHOLE, measure
from modalities.echo.sample import Echo
from modalities.echo.transform import EchoSettings, EchoTransform, Item

DEFAULTS = {"rate": 25.0, "frames": 50, "size": 32}
"""Two seconds, in which a beat is seen whole at 30 a minute; small pictures, as only cells are measured."""

CELLS = GRID**2
MEASURES = CELL * CELLS + WHOLE


class MeasuredTransform(EchoTransform):
    """The frames that `EchoTransform` chooses, then measures (`measures.measure`), standardised by the training clips.

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
            raise UserError(f"echo transform: measured needs a size that is a multiple of {GRID}, got {settings.size}")
        self._standard = Standard(MEASURES, statistics)

    @property
    def _augmented(self) -> bool:
        s = self.settings
        return bool(s.jitter or s.shift or s.rotation or s.gain)

    def featurise(self, sample: Echo) -> Echo | NDArray[np.float64]:
        """Measure the middle of the clip; where training augments, measuring waits for it."""
        return sample if self._augmented else self._measured(sample)

    def fit(self, features: Iterable[Echo | NDArray[np.float64]]) -> None:
        """Mean and standard deviation of each measure, unless they were given."""
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
        """The settings, and what was learnt."""
        return super().config() | {"statistics": self._standard.statistics}


class FeatureLinear(Encoder):
    r"""A linear map of the measures of a clip: how bright and how much it moves, where and how often.

    .. math:: v = \sum_c W_c m_c + W_0 m_0

    with measures m of cell c of the picture, and of the whole. `model.cca_init` sets W in closed form: with some
    hundreds of clips that beats what a network can learn. Tokens are the 64 cells, and one more for the
    whole; they add up to the vector.

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
        super().__init__(width, token_width=width)
        if not isinstance(transform, MeasuredTransform):
            raise UserError("echo: the encoder 'features' needs its own transform: modality.transform('features', {})")
        self.table = nn.Parameter(torch.randn(len(MEASURES), width) * width**-0.5)

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["measures"]`."""
        values = summed_tokens(inputs["measures"], self.table, CELLS, len(CELL))
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return Features(values.sum(1), Tokens(values, mask))

    def linear_features(self, inputs: Inputs) -> Tensor:
        """The measures."""
        measures: Tensor = inputs["measures"]
        return measures

    def set_linear_weights(self, weight: Tensor) -> None:
        """Set the map."""
        with torch.no_grad():
            self.table.copy_(weight)

    def config(self) -> dict[str, Any]:
        """The arguments."""
        return {"width": self.width}
