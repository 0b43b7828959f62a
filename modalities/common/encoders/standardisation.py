"""Standardisation of features: mean 0 and standard deviation 1 over the training samples, equal weight per family."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError
from modalities.common.reading.numbers import stated_table

FARTHEST = 4.0  # standard deviations; features are clipped here, so that one outlier does not dominate
FLOOR = 1e-3


class Standard:
    """Subtract the training mean, divide by the standard deviation, clip at four of them, weight by family.

    Families are scaled to equal mean squared norm, so that large families do not dominate small ones. NaN (not
    measurable) becomes 0, the training mean.

    Args:
        families: Family of each feature, in the order of the features.
        statistics: `{"mean": [...], "sd": [...]}` of an earlier fit.

    Raises:
        UserError: the statistics are not one number for each feature.

    Example:
        >>> standard = Standard(["width", "height", "height"])
        >>> standard.fit([np.array([0.0, 1.0, np.nan]), np.array([2.0, 3.0, 5.0])])
        >>> standard(np.array([2.0, np.nan, 5.0])).round(2).tolist()
        [1.0, 0.0, 0.0]
    """

    def __init__(self, families: Sequence[str], statistics: Mapping[str, Sequence[float]] | None = None) -> None:
        self.statistics = dict(statistics) if statistics else None
        if self.statistics is not None:
            for name in ("mean", "sd"):
                stated_table(self.statistics.get(name), (len(families),), f"the {name} of the features")
        self._mean, self._sd = self._arrays()
        counts = Counter(families)
        self._share = np.array([counts[family] ** -0.5 for family in families])

    def fit(self, rows: Iterable[NDArray[np.float64]]) -> None:
        """Fit mean and standard deviation of each feature.

        Raises:
            UserError: there are no rows.
        """
        columns = list(rows)
        if not columns:
            raise UserError("features transform: expected training samples to standardise by, got none")
        values = np.stack(columns)
        known, filled = np.isfinite(values), np.nan_to_num(values)
        count = known.sum(0).clip(min=1)
        mean = filled.sum(0) / count
        sd = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(0) / count)
        self.statistics = {"mean": mean.tolist(), "sd": sd.tolist()}
        self._mean, self._sd = self._arrays()

    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean, sd = (np.asarray((self.statistics or {}).get(name, ()), np.float64) for name in ("mean", "sd"))
        return mean, sd

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardise one sample's features."""
        if self.statistics is None:
            raise UserError("features transform: not fitted yet: call fit with the training samples first")
        scaled = ((values - self._mean) / (self._sd + FLOOR)).clip(-FARTHEST, FARTHEST) * self._share
        standardised: NDArray[np.float32] = np.nan_to_num(scaled).astype(np.float32)
        return standardised
