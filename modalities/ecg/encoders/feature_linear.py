"""Linear encoder of hand-crafted ECG features, and the transform that computes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmalign.errors import UserError
from mmalign.types import Inputs
from modalities.common.encoders.feature_linear import FeatureLinear
from modalities.common.encoders.standardisation import Standard
from modalities.ecg.features.ecg_features import FAMILIES, LEAD, WHOLE, measure
from modalities.ecg.preprocessing import Bandpass, Crop, Normalise, Resample, Step
from modalities.ecg.sample import LEADS, Ecg
from modalities.ecg.transform import EcgSettings, EcgTransform, Filtered, Item

MILLIVOLTS: tuple[Step, ...] = (Resample(), Bandpass(), Crop(), Normalise(by="fixed", scale=1.0))
"""The default steps without normalisation of voltages, which carry the signs of hypertrophy."""


class Measures(NamedTuple):
    """Features of a recording without augmentation, and the mask of recorded leads."""

    values: NDArray[np.float64]
    lead_mask: NDArray[np.bool_]


class MeasuredTransform(EcgTransform):
    """The steps of `EcgTransform`, then measures (see `measures.measure`), standardised by the training recordings.

    Families (the beat, its waves, power, the whole) are scaled to equal mean squared norm, so that large families do
    not dominate small ones. Features that cannot be measured are 0, the training mean.

    Args:
        settings: As for other encoders; without beats.
        statistics: `{"mean": [...], "sd": [...]}` of an earlier fit.

    Shape:
        `Ecg` -> item of `measures (557,)` float32, lead by lead and then the whole, and `lead_mask (12,)`.

    Example:
        >>> from modalities.ecg import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> hearts = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
        >>> transform.fit(map(transform.featurise, hearts))
        >>> transform.collate([transform.item(heart) for heart in hearts])["measures"].shape
        torch.Size([3, 557])
    """

    def __init__(self, settings: EcgSettings, statistics: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__(settings)
        if settings.beats:
            raise UserError("ecg transform: the encoder 'features' gives no beats; leave beats out")
        of_lead = [family for family, count in FAMILIES.items() for _ in range(count)]
        self._standard = Standard([*of_lead * len(LEADS), *["whole"] * WHOLE], statistics)

    @property
    def _augmented(self) -> bool:
        s = self.settings
        return bool(
            s.lead_dropout or s.noise or s.scaling or any(isinstance(a, Crop) and a.random < 1 for a in s.steps)
        )

    def featurise(self, sample: Ecg) -> Filtered | Measures:
        """Features of the middle of the recording; with augmentation they are computed after it."""
        filtered = super().featurise(sample)
        return filtered if self._augmented else self._measured(filtered)

    def fit(self, features: Iterable[Filtered | Measures]) -> None:
        """Fit mean and standard deviation of each feature, unless they were given."""
        if self._standard.statistics is None:
            self._standard.fit(self._measured(one).values for one in features)

    def __call__(self, features: Filtered | Measures, rng: np.random.Generator | None = None) -> Item:
        """Make the item."""
        values, lead_mask = self._measured(features, rng)
        return {"measures": self._standard(values), "lead_mask": lead_mask}

    def _measured(self, features: Filtered | Measures, rng: np.random.Generator | None = None) -> Measures:
        if isinstance(features, Measures):
            return features
        item = super().__call__(features, rng)
        leads, whole = measure(item["signal"][:, item["time_mask"]], item["lead_mask"], self.settings.rate)
        return Measures(np.concatenate([leads.ravel(), whole]), item["lead_mask"])

    def config(self) -> dict[str, Any]:
        """The settings and the fitted statistics."""
        return super().config() | {"statistics": self._standard.statistics}


class EcgFeatureLinear(FeatureLinear):
    """A linear map of hand-crafted ECG features: amplitudes, areas, intervals, the median beat; tokens are the leads.

    Args:
        transform: A fitted `MeasuredTransform`.
        width: Size of the vector and of a token.

    Shape:
        `measures (batch, 557)` -> vector `(batch, width)`, tokens `(batch, 13, width)`.

    Example:
        >>> from modalities.ecg import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> MODALITY.encoder("features", transform, width=8).token_width
        8
    """

    def __init__(self, transform: EcgTransform, *, width: int = 256) -> None:
        if not isinstance(transform, MeasuredTransform):
            raise UserError("ecg: the encoder 'features' needs its own transform: modality.transform('features', {})")
        super().__init__(width, positions=len(LEADS), per_position=LEAD, rest=WHOLE)

    def token_mask(self, inputs: Inputs, values: Tensor) -> Tensor:
        """The recorded leads, and the whole-recording token."""
        return F.pad(inputs["lead_mask"], (0, 1), value=True)
