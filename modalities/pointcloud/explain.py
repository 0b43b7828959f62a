"""Groups of points as the units of an explanation."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign.capabilities import TokenLabels
from mmalign.modality import Encoder
from modalities.pointcloud.encoders.groups import group_points
from modalities.pointcloud.encoders.openshape import OpenShape
from modalities.pointcloud.encoders.point_transformer import PointTransformer
from modalities.pointcloud.sample import PointCloud
from modalities.pointcloud.transform import PointCloudTransform, turned

REGIONS = ("low", "middle", "high"), ("left", "centre", "right"), ("back", "middle", "front")


@dataclass(frozen=True)
class GroupedCloud:
    """The points that an encoder reads, and the group whose centre is nearest to each.

    Args:
        cloud: The points, y up.
        group: Index of the group of each point, `(n,)`.
    """

    cloud: PointCloud
    group: NDArray[np.int64]


def group_labels(
    sample: PointCloud, transform: PointCloudTransform, encoder: Encoder, count: int
) -> TokenLabels | None:
    """The groups of a point transformer, named by their position; None for another encoder.

    Args:
        sample: The cloud.
        transform: The tower's.
        encoder: The tower's.
        count: Number of tokens that the encoder returned.
    """
    if not isinstance(encoder, PointTransformer | OpenShape) or count != encoder.groups:
        return None
    inputs = transform.collate([transform.item(sample)])
    groups = group_points(inputs, encoder.groups, encoder.group_size)
    real = groups.mask[0]
    centres, points = groups.centres[0][real], inputs["points"][0][inputs["mask"][0]]
    nearest = torch.cdist(points, centres).argmin(1).numpy()
    upright, centre = (_upright(values.numpy(), transform.settings.vertical) for values in (points, centres))
    members = np.eye(count)[: len(centre)]
    return TokenLabels(_names(centre), members, shown=GroupedCloud(PointCloud(upright), nearest))


def _upright(points: NDArray[np.float32], vertical: int) -> NDArray[np.float32]:
    """The same points with y up."""
    return points if vertical == 1 else turned(points, "z").astype(np.float32)


def _names(centres: NDArray[np.float32]) -> list[str]:
    """Position of each centre in words, numbered where several share it."""
    low, high = centres.min(0), centres.max(0)
    third = ((centres - low) / np.maximum(high - low, 1e-12) * 3).astype(int).clip(0, 2)
    words = [f"{REGIONS[0][y]} {REGIONS[1][x]} {REGIONS[2][z]}" for x, y, z in third.tolist()]
    seen: dict[str, int] = {}
    names = []
    for word in words:
        seen[word] = seen.get(word, 0) + 1
        names.append(f"{word} {seen[word]}" if words.count(word) > 1 else word)
    return names
