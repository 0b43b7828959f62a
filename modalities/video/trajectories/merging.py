"""Merging of adjacent segments of a volume by their mean colours."""

import numpy as np
from numpy.typing import NDArray


def merge_similar(
    labels: NDArray[np.int32],
    colours: NDArray[np.float32],
    threshold: float,
    *,
    seen: NDArray[np.int64] | None = None,
    least: float = 0.0,
) -> NDArray[np.int32]:
    """Merge adjacent segments greedily, the most similar pair first, until no pair is more similar than the threshold.

    The distance of two segments is the Euclidean distance of their mean colours; a merged segment has the mean colour
    of all its pixels. Neighbours are those across a face of a voxel, in space and in time.

    Args:
        labels: Ids from 1, each of them one segment, `(time, height, width)`.
        colours: Values of each voxel, `(time, height, width, channels)`.
        threshold: Largest distance of a merged pair; 0 merges nothing.
        seen: Pixels of each id that count, `(largest id + 1,)`; None = all.
        least: Segments of which fewer pixels count, but some, first join their most similar neighbour.

    Shape:
        Returns ids from 1, `(time, height, width)`.

    Example:
        >>> labels = np.array([[[1, 2, 3]]], np.int32)
        >>> merge_similar(labels, np.array([[[[0.0], [0.1], [0.9]]]], np.float32), 0.2).tolist()
        [[[1, 1, 2]]]
    """
    ids, local = np.unique(labels, return_inverse=True)
    local, count = local.reshape(labels.shape), len(ids)
    sizes = np.bincount(local.ravel(), minlength=count).astype(np.float64)
    channels = np.moveaxis(colours, -1, 0)
    sums = np.stack([np.bincount(local.ravel(), channel.ravel(), count) for channel in channels], axis=1)
    means = sums.astype(np.float64) / sizes[:, None]
    adjacent = np.zeros((count, count), bool)
    for axis in range(3):
        first = np.moveaxis(local, axis, 0)
        adjacent.ravel()[(first[:-1] * count + first[1:]).ravel()] = True
    adjacent |= adjacent.T
    np.fill_diagonal(adjacent, False)
    distance = np.where(adjacent, np.linalg.norm(means[:, None] - means, axis=-1), np.inf)
    root = np.arange(count)

    def join(one: int, other: int) -> None:
        means[one] = (sizes[one] * means[one] + sizes[other] * means[other]) / (sizes[one] + sizes[other])
        sizes[one] += sizes[other]
        adjacent[one] |= adjacent[other]
        adjacent[:, one] |= adjacent[:, other]
        adjacent[other], adjacent[:, other], adjacent[one, one] = False, False, False
        distance[other], distance[:, other] = np.inf, np.inf
        distance[one] = np.where(adjacent[one], np.linalg.norm(means - means[one], axis=-1), np.inf)
        distance[:, one] = distance[one]
        root[root == other] = one

    if seen is not None:
        visible = seen[ids].astype(np.float64)
        while (small := (visible > 0) & (visible < least) & np.isfinite(distance).any(1)).any():
            one = int(np.where(small, visible, np.inf).argmin())
            other = int(distance[one].argmin())
            join(other, one)
            visible[other] += visible[one]
            visible[one] = 0
    while distance.size and distance.min() < threshold:
        join(*divmod(int(distance.argmin()), count))
    _, names = np.unique(root, return_inverse=True)
    return (names[local] + 1).astype(np.int32)
