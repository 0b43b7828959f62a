"""Point clouds and meshes: geometry, reading, encoders."""

from modalities.pointcloud.modality import PointCloudModality

MODALITY = PointCloudModality()
__all__ = ["MODALITY"]
