"""The point cloud modality: what the core calls."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmalign import registry
from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder, Modality, Transform
from modalities.pointcloud.encoders.feature_linear import ShapeLinear, ShapeSettings, ShapeTransform
from modalities.pointcloud.encoders.openshape import OpenShape
from modalities.pointcloud.encoders.point_transformer import PointTransformer
from modalities.pointcloud.encoders.pointnet import PointNet
from modalities.pointcloud.encoders.pointnet2 import PointNet2
from modalities.pointcloud.explain import GroupedCloud, group_labels
from modalities.pointcloud.formats.limits import MAX_BYTES
from modalities.pointcloud.perturb import PERTURBATIONS, perturb_pointcloud
from modalities.pointcloud.read import read_pointcloud
from modalities.pointcloud.sample import PointCloud
from modalities.pointcloud.solids.toy import toy_solid
from modalities.pointcloud.transform import PointCloudSettings, PointCloudTransform

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PointCloudModality(Modality):
    """Point clouds, and meshes as points on their surface."""

    name = "pointcloud"
    max_file_bytes = MAX_BYTES
    description = "meshes and point clouds: OFF, OBJ, GLB, PLY, STL, LAS, XYZ, NPY, NPZ, HDF5; an item is 1,024 points"
    encoders: ClassVar[Mapping[str, Callable[..., Encoder]]] = {
        "point_transformer": PointTransformer,
        "pointnet2": PointNet2,
        "pointnet": PointNet,
        "features": ShapeLinear,
        "openshape": OpenShape,
    }
    perturbations: ClassVar[Mapping[str, Sequence[float]]] = PERTURBATIONS
    cached_types: ClassVar[Sequence[type]] = (PointCloud,)
    reading_libraries: ClassVar[Sequence[str]] = ("trimesh", "laspy", "h5py", "numpy")

    def read(self, source: Any) -> PointCloud:
        """Decode, and sample the surface of a mesh, see `read_pointcloud`."""
        return read_pointcloud(source)

    def files_read(self, path: Path) -> Sequence[Path]:
        """The file alone: no file that it refers to is opened."""
        return [path]

    def transform(self, encoder: str, encoder_args: Mapping[str, Any], **settings: Any) -> PointCloudTransform:
        """The default settings, or the given ones."""
        if encoder == "features":
            return ShapeTransform(registry.settings(ShapeSettings, settings, "pointcloud transform"))
        return PointCloudTransform(PointCloudSettings.make(settings))

    def restore_transform(self, config: Mapping[str, Any]) -> Transform:
        """From the transform's `config()`."""
        if "statistics" in config:
            settings = {name: value for name, value in config.items() if name != "statistics"}
            restored = registry.settings(ShapeSettings, settings, "pointcloud transform")
            return ShapeTransform(restored, config["statistics"])
        return PointCloudTransform(PointCloudSettings.make(config), sealed=True)

    def perturb(
        self, sample: PointCloud, transform: Transform, name: str, level: float, rng: np.random.Generator
    ) -> PointCloud:
        """Jitter, dropped points, rotation about the up axis, occlusion; see `perturb_pointcloud`."""
        assert isinstance(transform, PointCloudTransform)
        return perturb_pointcloud(sample, name, level, rng, up=transform.settings.up)

    def picture(self, sample: PointCloud, axes: "Axes") -> None:
        """Draw three views."""
        from modalities.pointcloud.picture import draw_cloud

        draw_cloud(sample, axes)

    def token_labels(
        self, sample: PointCloud, transform: Transform, encoder: Encoder, level: str, count: int
    ) -> TokenLabels | None:
        """The groups of a point transformer, see `group_labels`."""
        if level != "tokens" or not isinstance(transform, PointCloudTransform):
            return None
        return group_labels(sample, transform, encoder, count)

    def weighted_picture(self, sample: GroupedCloud, axes: "Axes", weights: Sequence[float]) -> None:
        """Draw the points, each in the colour of its group's weight."""
        from modalities.pointcloud.picture import draw_cloud

        draw_cloud(sample.cloud, axes, np.asarray(weights, dtype=np.float64)[sample.group])

    def toy_sample(self, label: int, rng: np.random.Generator) -> PointCloud:
        """One of ten solids, see `toy_solid`."""
        return toy_solid(label, rng)
