"""A linear encoder of hand-crafted shape features, and the transform that computes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmalign.errors import UserError
from mmalign.registry import nearest
from mmalign.types import Features, Inputs, Tokens
from modalities.common.encoders.feature_linear import FeatureLinear
from modalities.common.reading.numbers import stated_table
from modalities.pointcloud.features.descriptors import DESCRIPTORS, describe, families
from modalities.pointcloud.sample import METRES, PointCloud
from modalities.pointcloud.transform import (
    Item,
    PointCloudSettings,
    PointCloudTransform,
    check_conventions,
    turned,
)

AUGMENTATION = ("rotation", "jitter", "scaling", "point_dropout", "colour_dropout")


@dataclass(frozen=True)
class ShapeSettings(PointCloudSettings):
    """Settings of shape features: those of point clouds without augmentation, because features are computed once.

    Args:
        thresholds: Quantiles of the training clouds that each feature is compared with.
        descriptors: Sets of features: shape, normal_histograms, point_pairs, symmetry, views.
    """

    thresholds: int = 6
    descriptors: tuple[str, ...] = ("shape",)

    def __post_init__(self) -> None:
        """Refuse augmentation, a wrong number of thresholds, and unknown descriptors."""
        super().__post_init__()
        for name in AUGMENTATION:
            if getattr(self, name):
                raise UserError(
                    f"pointcloud transform: the encoder 'features' computes its features once, without augmentation; "
                    f"leave {name} out"
                )
        if isinstance(self.thresholds, bool) or not 1 <= self.thresholds <= 64:
            raise UserError(f"pointcloud transform: thresholds must be in 1..64, got {self.thresholds!r}")
        if not isinstance(self.descriptors, list | tuple) or not self.descriptors:
            raise UserError(
                f"pointcloud transform: descriptors must be a list of {', '.join(DESCRIPTORS)}, got "
                f"{self.descriptors!r}"
            )
        object.__setattr__(self, "descriptors", tuple(self.descriptors))
        for index, name in enumerate(self.descriptors):
            if name not in DESCRIPTORS:
                raise UserError(
                    f"pointcloud transform: there is no descriptor {name!r}{nearest(str(name), DESCRIPTORS)}"
                )
            if name in self.descriptors[:index]:
                raise UserError(f"pointcloud transform: descriptors has {name!r} twice")


class ShapeTransform(PointCloudTransform):
    r"""Shape features (see `describe`) in thermometer coding: which training quantiles each feature exceeds.

    .. math:: m_{fk} = \left([x_f > q_{fk}] - \bar m_{fk}\right) / \sqrt{n_{\text{family of } f}}

    with q the quantiles k / (thresholds + 1) of the training clouds, and the mean over them: a linear map of m is an
    additive function of steps in each feature, as of a forest of stumps. Families have equal weight. Sizes are those
    of the file, or metres where the settings state the unit. Normals are those of the file (of a mesh: of its faces)
    with the setting `normals`; without it, or where the file has none, they are estimated from the points.

    Args:
        settings: See `ShapeSettings`.
        statistics: `{"quantiles": ..., "mean": ...}` of an earlier fit, `(features, thresholds)` each.

    Shape:
        `PointCloud` -> item of `measures (features * thresholds,)` float32.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> transform = MODALITY.transform("features", {})
        >>> shapes = [MODALITY.toy_sample(label, np.random.default_rng(label)) for label in range(3)]
        >>> transform.fit(map(transform.featurise, shapes))
        >>> transform.collate([transform.item(shape) for shape in shapes])["measures"].shape
        torch.Size([3, 2994])
    """

    settings: ShapeSettings

    def __init__(self, settings: ShapeSettings, statistics: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.statistics = dict(statistics) if statistics else None
        self.families = families(settings.descriptors)
        self._tables: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._scales = np.concatenate([np.full(n, n**-0.5, np.float32) for n in self.families.values()])
        shape = (len(self._scales), settings.thresholds)
        for name in ("quantiles", "mean") if self.statistics is not None else ():
            stated_table((statistics or {}).get(name), shape, f"the {name} of the features")

    def featurise(self, sample: PointCloud) -> Item:
        """Measure the shape.

        Raises:
            BadSample: the file's format defines another up axis or unit than the settings state.
        """
        s = self.settings
        check_conventions(s, sample)
        points, normals = sample.points, sample.normals if s.normals else None
        if s.up == "y":
            points, normals = turned(points, "y"), None if normals is None else turned(normals, "y")
        measures = describe((points * METRES.get(s.units, 1.0)).astype(np.float32), normals, s.descriptors)
        return {"measures": measures.astype(np.float32)}

    def fit(self, features: Iterable[Item]) -> None:
        """Quantiles of each feature, unless they were given.

        Raises:
            UserError: there are no training clouds.
        """
        if self.statistics is not None:
            return
        rows = [item["measures"] for item in features]
        if not rows:
            raise UserError("pointcloud features: expected training clouds to take quantiles of, got none")
        values = np.stack(rows)
        levels = np.arange(1, self.settings.thresholds + 1) / (self.settings.thresholds + 1)
        quantiles = np.quantile(values, levels, axis=0).T.astype(np.float32)  # (features, thresholds)
        mean = (values[:, :, None] > quantiles).mean(0)
        self.statistics = {"quantiles": quantiles.tolist(), "mean": mean.tolist()}

    def __call__(self, features: Item, rng: np.random.Generator | None = None) -> Item:
        """Compare with the quantiles."""
        if self.statistics is None:
            raise UserError("pointcloud features: no quantiles yet; call fit with the training clouds first")
        if self._tables is None:  # to make arrays of lists takes longer than to compare
            quantiles, mean = (np.asarray(self.statistics[name], np.float32) for name in ("quantiles", "mean"))
            self._tables = quantiles, mean
        quantiles, mean = self._tables
        codes = ((features["measures"][:, None] > quantiles) - mean) * self._scales[:, None]
        return {"measures": codes.ravel().astype(np.float32)}

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack."""
        stacked: NDArray[np.float32] = np.stack([item["measures"] for item in items])
        return {"measures": torch.from_numpy(stacked)}

    def config(self) -> dict[str, Any]:
        """The settings, and the statistics."""
        return super().config() | {"statistics": self.statistics}


class ShapeLinear(FeatureLinear):
    """A linear map of the shape features of a cloud: sizes, histograms, moments; one token for each family.

    CCA initialisation (`model.cca_init`) sets the map; with a few hundred shapes this outperforms a network.

    Args:
        transform: A `ShapeTransform`.
        width: Size of the vector and of a token.

    Shape:
        `measures (batch, features * thresholds)` -> vector `(batch, width)`, tokens `(batch, families, width)`, which
        add up to it.

    Example:
        >>> from modalities.pointcloud import MODALITY
        >>> MODALITY.encoder("features", MODALITY.transform("features", {}), width=8).token_width
        8
    """

    def __init__(self, transform: PointCloudTransform, *, width: int = 256) -> None:
        if not isinstance(transform, ShapeTransform):
            raise UserError(
                "pointcloud: the encoder 'features' needs its own transform: modality.transform('features', {})"
            )
        thresholds = transform.settings.thresholds
        counts = [count * thresholds for count in transform.families.values()]
        super().__init__(width, positions=0, per_position=0, rest=sum(counts))
        self.counts = counts

    def forward(self, inputs: Inputs) -> Features:
        """Encode `inputs["measures"]`."""
        measures: Tensor = inputs["measures"]
        families = zip(torch.split(measures, self.counts, dim=1), torch.split(self.table, self.counts), strict=True)
        values = torch.stack([part @ weight for part, weight in families], dim=1)
        return Features(values.sum(1), Tokens(values, self.token_mask(inputs, values)))
