"""A linear encoder of hand-crafted shape features, and the transform that computes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmalign.errors import UserError
from mmalign.types import Features, Inputs, Tokens
from modalities.common.feature_linear import FeatureLinear
from modalities.common.standardisation import Standard
from modalities.pointcloud.features.shape_features import FAMILIES, WIDTH, shape_features
from modalities.pointcloud.sample import METRES, PointCloud
from modalities.pointcloud.transform import (
    Item,
    PointCloudSettings,
    PointCloudTransform,
    check_conventions,
    turned,
)

AUGMENTATION = ("rotation", "jitter", "scaling", "point_dropout", "colour_dropout")


class ShapeTransform(PointCloudTransform):
    """Shape features (see `shape_features`), standardised by the training clouds; families have equal weight.

    Sizes are those of the file, or metres where the settings state the unit.

    Args:
        settings: As for other encoders, without augmentation: features are computed once.
        statistics: `{"mean": [...], "sd": [...]}` of an earlier fit.

    Shape:
        `PointCloud` -> item of `measures (WIDTH,)` float32.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> shapes = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
        >>> transform.fit(map(transform.featurise, shapes))
        >>> transform.collate([transform.item(shape) for shape in shapes])["measures"].shape
        torch.Size([3, 274])
    """

    def __init__(self, settings: PointCloudSettings, statistics: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__(settings)
        for name in AUGMENTATION:
            if getattr(settings, name):
                raise UserError(
                    f"pointcloud transform: the encoder 'features' computes its features once, without augmentation; "
                    f"leave {name} out"
                )
        self._standard = Standard([family for family, count in FAMILIES.items() for _ in range(count)], statistics)

    def featurise(self, sample: PointCloud) -> Item:
        """Measure the shape."""
        s = self.settings
        check_conventions(s, sample)
        points = turned(sample.points, "y") if s.up == "y" else sample.points
        return {"measures": shape_features((points * METRES.get(s.units, 1.0)).astype(np.float32)).astype(np.float32)}

    def fit(self, features: Iterable[Item]) -> None:
        """Mean and standard deviation of each feature, unless they were given."""
        if self._standard.statistics is None:
            self._standard.fit(item["measures"].astype(np.float64) for item in features)

    def __call__(self, features: Item, rng: np.random.Generator | None = None) -> Item:
        """Standardise."""
        return {"measures": self._standard(features["measures"].astype(np.float64))}

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack."""
        stacked: NDArray[np.float32] = np.stack([item["measures"] for item in items])
        return {"measures": torch.from_numpy(stacked)}

    def config(self) -> dict[str, Any]:
        """The settings, and the statistics."""
        return super().config() | {"statistics": self._standard.statistics}


class ShapeLinear(FeatureLinear):
    """A linear map of the shape features of a cloud: sizes, histograms, moments; one token for each family.

    CCA initialisation (`model.cca_init`) sets the map; with a few hundred shapes this outperforms a network.

    Args:
        transform: A `ShapeTransform`.
        width: Size of the vector and of a token.

    Shape:
        `measures (batch, WIDTH)` -> vector `(batch, width)`, tokens `(batch, families, width)`, which add up to it.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> MODALITY.encoder("features", MODALITY.transform("features", {}), width=8).token_width
        8
    """

    def __init__(self, transform: PointCloudTransform, *, width: int = 256) -> None:
        super().__init__(width, places=0, per_place=0, rest=WIDTH)
        if not isinstance(transform, ShapeTransform):
            raise UserError(
                "pointcloud: the encoder 'features' needs its own transform: modality.transform('features', {})"
            )

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["measures"]`."""
        measures: Tensor = inputs["measures"]
        counts = list(FAMILIES.values())
        families = zip(torch.split(measures, counts, dim=1), torch.split(self.table, counts), strict=True)
        values = torch.stack([part @ weight for part, weight in families], dim=1)
        return Features(values.sum(1), Tokens(values, self.token_mask(inputs, values)))
