"""From trajectories of any origin to a map with a bounded number of trajectory indices."""

import numpy as np
from numpy.typing import NDArray

from modalities.video.sample import Tracks


def trajectory_map(tracks: Tracks, max_tracks: int) -> NDArray[np.int32]:
    """The trajectory of each pixel, by the table; every pixel belongs to exactly one.

    The trajectories with the most pixels over the clip (mean area times duration) are kept, in the order of the table.
    All other pixels, uncovered ones included, form one background trajectory, which is the last. Where the table names
    one segment for two trajectories, the larger one gets it.

    Args:
        tracks: Labels and table; ids may be per frame.
        max_tracks: Largest number of trajectories, the background included; at least 1.

    Shape:
        Returns index + 1, `(time, height, width)`.

    Example:
        >>> labels = np.array([[[3, 3, 0]], [[8, 3, 0]]], np.int32)  # segment 3, then 8, is trajectory 0
        >>> trajectory_map(Tracks(labels, np.array([[3, 8], [0, 3]], np.int32)), 8).tolist()
        [[[1, 1, 3]], [[1, 2, 3]]]
    """
    owner, claims = _owners(tracks)
    sizes = np.bincount(owner.ravel(), minlength=claims + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]
    everywhere = bool((owner > 0).all())
    if len(order) > max_tracks or not everywhere:
        order = order[: max_tracks - 1]
    names = np.full(claims + 1, len(order) + 1, np.int32)
    names[np.sort(order) + 1] = np.arange(1, len(order) + 1)
    return names[owner]


def _owners(tracks: Tracks) -> tuple[NDArray[np.int64], int]:
    """Row of the table + 1 of each pixel, 0 = none; and the number of rows."""
    ids, segment = np.unique(tracks.labels, return_inverse=True)  # compact: ids may be 24-bit colours
    segment = segment.reshape(tracks.labels.shape)
    times = np.arange(len(segment))
    counts = np.zeros((len(segment), len(ids)), np.int64)
    for time in times:
        counts[time] = np.bincount(segment[time].ravel(), minlength=len(ids))
    index = np.minimum(np.searchsorted(ids, tracks.table), len(ids) - 1)
    valid = (ids[index] == tracks.table) & (tracks.table > 0)
    claimed = np.where(valid, counts[times, index], 0).sum(1)
    smallest_first = np.argsort(claimed, kind="stable")
    rows, when = np.nonzero(valid[smallest_first])
    rows = smallest_first[rows]
    lookup = np.zeros((len(segment), len(ids)), np.int64)
    lookup[when, index[rows, when]] = rows + 1  # the last one, which is the largest, stays
    return lookup[times[:, None, None], segment], len(tracks.table)
