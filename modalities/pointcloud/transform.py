"""Clouds to a batch: oriented, centred, scaled, a fixed number of points; padded where a cloud has fewer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign import registry
from mmalign.errors import BadSample, UserError
from mmalign.modality import Transform
from mmalign.registry import nearest
from mmalign.types import Inputs
from modalities.pointcloud.augment import augment
from modalities.pointcloud.sample import AXES, METRES, PointCloud

Item = dict[str, NDArray[np.float32]]

SCALES = ("sphere", "metres")
MISSING_COLOUR = 0.4
"""Grey of a cloud without colours, as OpenShape and Uni3D set it."""


@dataclass(frozen=True)
class PointCloudSettings:
    """How clouds become inputs. The lower half is training's augmentation; all of it is off unless set.

    Args:
        points: Points of an item: of a larger cloud a random subset, the same one in use, another one at each draw in
            training. A smaller cloud is padded.
        pool: Points that are kept of a cloud, of which training draws; at least `points`.
        up: The axis that points up in the files, y or z. A file whose format defines another one is rejected.
        turned_up: The axis that points up in the inputs; "" = as in the files. Where it differs, clouds are turned.
        units: The unit of length of the files: m, cm, mm, in or ft; "" = not stated. A file whose format defines
            another one is rejected. Needed for the scale `metres`.
        scale: sphere (the farthest point has distance 1 from the mean) or metres (centred, true size).
        colours: Give colours to the encoder; a cloud without any is grey, 0.4.
        normals: Give normals to the encoder; a cloud without any has normals of 0.
        rotation: Largest rotation about the up axis, in degrees; 180 = any.
        jitter: Standard deviation of the normal noise on coordinates, in units of the inputs, cut at 5 of them.
        scaling: Training multiplies coordinates by `exp(uniform(-scaling, scaling))`.
        point_dropout: Largest fraction of the points that training removes; the fraction is uniform.
        colour_dropout: How likely training replaces a cloud's colours by grey.
    """

    points: int = 1024
    pool: int = 4096
    up: str = "y"
    turned_up: str = ""
    units: str = ""
    scale: str = "sphere"
    colours: bool = False
    normals: bool = False
    rotation: float = 0.0
    jitter: float = 0.0
    scaling: float = 0.0
    point_dropout: float = 0.0
    colour_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any data is read."""
        for name in ("points", "pool"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 16:
                raise UserError(f"pointcloud transform: {name} must be an integer in 1..{1 << 16}, got {value!r}")
        if self.pool < self.points:
            raise UserError(f"pointcloud transform: pool must be at least points ({self.points}), got {self.pool}")
        for name, choices in (("up", AXES), ("turned_up", ("", *AXES)), ("units", ("", *METRES)), ("scale", SCALES)):
            value = getattr(self, name)
            if value not in choices:
                known = [choice for choice in choices if choice]
                raise UserError(f"pointcloud transform: {name} cannot be {value!r}{nearest(str(value), known)}")
        if self.scale == "metres" and not self.units:
            raise UserError("pointcloud transform: scale metres needs the units of the files, got none; set units")
        for name in ("colours", "normals"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"pointcloud transform: {name} must be true or false, got {getattr(self, name)!r}")
        for name, high in (
            ("rotation", 180), ("jitter", 1), ("scaling", 3), ("point_dropout", 0.95), ("colour_dropout", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise UserError(f"pointcloud transform: {name} must be in 0..{high:g}, got {value!r}")

    @property
    def vertical(self) -> int:
        """Place of the axis that points up in the inputs."""
        return "xyz".index(self.turned_up or self.up)

    @staticmethod
    def make(values: Mapping[str, Any]) -> "PointCloudSettings":
        """From a mapping, naming what is unknown."""
        return registry.settings(PointCloudSettings, values, "pointcloud transform")


class PointCloudTransform(Transform):
    """Orient, centre, scale and choose points; in training, augment. The order of a cloud's points has no effect.

    Args:
        settings: See `PointCloudSettings`.
        sealed: Whether it was restored from a bundle, whose encoders bring their own weights.

    Shape:
        `PointCloud` -> item of `points (n, 3)` and, where set, `colours (n, 3)` and `normals (n, 3)`, float32 -> the
        same with a batch dimension in front, padded with 0, and `mask (batch, n)`, True = real point.

    Example:
        >>> transform = PointCloudTransform(PointCloudSettings(points=16))
        >>> clouds = [PointCloud(np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)) for n in (10, 50)]
        >>> batch = transform.collate([transform.item(cloud) for cloud in clouds])
        >>> batch["points"].shape, batch["mask"].sum(1).tolist()
        (torch.Size([2, 16, 3]), [10, 16])
    """

    def __init__(self, settings: PointCloudSettings, sealed: bool = False) -> None:
        self.settings, self.sealed = settings, sealed

    @property
    def channels(self) -> int:
        """Numbers of a point: 3, and 3 more each for colours and normals."""
        return 3 * (1 + self.settings.colours + self.settings.normals)

    def featurise(self, sample: PointCloud) -> Item:
        """Orient, centre and scale, and keep `pool` points in a pseudo-random order that depends on their set alone.

        Raises:
            BadSample: the file's format defines another up axis or unit than the settings state.
        """
        s = self.settings
        check_conventions(s, sample)
        cloud: Item = {"points": sample.points}
        if s.colours:
            grey = np.full_like(sample.points, MISSING_COLOUR)
            cloud["colours"] = grey if sample.colours is None else sample.colours
        if s.normals:
            cloud["normals"] = np.zeros_like(sample.points) if sample.normals is None else sample.normals
        # Sorted by coordinates first, so that no sum and no choice depends on the order in the file.
        order = np.lexsort(np.concatenate(list(cloud.values()), axis=1).T)
        points = cloud["points"][order].astype(np.float64)
        points -= points.mean(0)
        radius = float(np.linalg.norm(points, axis=1).max()) or 1.0
        points *= METRES[s.units] if s.scale == "metres" else 1 / radius
        kept = np.random.default_rng(0).permutation(len(order))[: s.pool]
        cloud = {name: values[order[kept]] for name, values in cloud.items()}
        cloud["points"] = points[kept].astype(np.float32)
        if s.turned_up and s.turned_up != s.up:
            cloud |= {name: turned(cloud[name], s.up) for name in ("points", "normals") if name in cloud}
        return cloud

    def __call__(self, features: Item, rng: np.random.Generator | None = None) -> Item:
        """Choose points; with `rng`, other ones each time, augmented."""
        s, count = self.settings, len(features["points"])
        if rng is None:
            return {name: values[: s.points] for name, values in features.items()}
        kept = rng.permutation(count)[: s.points]
        if s.point_dropout:
            kept = kept[: max(1, round(len(kept) * (1 - rng.uniform(0, s.point_dropout))))]
        item = {name: values[kept] for name, values in features.items()}
        item = augment(item, rng, s.vertical, rotation=s.rotation, jitter=s.jitter, scaling=s.scaling)
        if s.colour_dropout and "colours" in item and rng.random() < s.colour_dropout:
            item["colours"] = np.full_like(item["colours"], MISSING_COLOUR)
        return item

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack; shorter clouds are padded with 0, mask False."""
        lengths = [len(item["points"]) for item in items]
        batch: Inputs = {}
        for name in items[0]:
            values = np.zeros((len(items), max(lengths), 3), np.float32)
            for row, item in enumerate(items):
                values[row, : lengths[row]] = item[name]
            batch[name] = torch.from_numpy(values)
        batch["mask"] = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return batch

    def config(self) -> dict[str, Any]:
        """The settings."""
        return asdict(self.settings)


def turned(vectors: NDArray[Any], up: str) -> NDArray[Any]:
    """A quarter turn about x that brings the axis `up` (y or z) to the other one; y to z and back is the identity.

    Example:
        >>> turned(np.array([[1, 2, 3]]), "y").tolist()
        [[1, -3, 2]]
    """
    x, y, z = vectors.T
    return np.stack([x, -z, y] if up == "y" else [x, z, -y], axis=1)


def check_conventions(settings: PointCloudSettings, sample: PointCloud) -> None:
    """Compare what the settings state with what the file's format defines.

    Raises:
        BadSample: they differ.
    """
    _check("up axis", "up", settings.up, sample.up)
    _check("unit", "units", settings.units, sample.units)


def _check(what: str, setting: str, stated: str, defined: str) -> None:
    if stated and defined and stated != defined:
        raise BadSample(
            "point cloud",
            f"the {what} {stated}, as the setting {setting} states",
            f"a file whose format defines {defined}: set transform.{setting}, or convert the file",
        )
