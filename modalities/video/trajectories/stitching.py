"""Labels of overlapping windows of a long clip, joined to one set of ids."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MIN_IOU = 0.5
"""Smallest intersection over union of two segments that are the same trajectory (TrajViT's value)."""


def stitch(windows: Iterable[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Join the labels of consecutive windows; the last frame of a window is the first frame of the next one.

    In the shared frame, segments of the two windows are matched one to one: the assignment that maximises the sum of
    their intersections over union, pairs below 0.5 excluded. A matched segment continues the earlier trajectory;
    any other starts a new one. TrajViT (arXiv 2505.23617) takes the best partner of each segment instead, so that two
    segments may claim the same trajectory.

    Args:
        windows: Labels from 1 (0 = none), each `(time, height, width)`; consumed one at a time.

    Shape:
        Returns ids from 1 (0 = none), `(time, height, width)`.

    Raises:
        ValueError: there is no window.

    Example:
        >>> stitch([np.array([[[4, 9]], [[4, 9]]]), np.array([[[1, 2]], [[1, 3]]])]).tolist()
        [[[1, 2]], [[1, 2]], [[1, 3]]]
    """
    pieces: list[NDArray[np.int32]] = []
    count = 0
    for window in windows:
        ids, local = np.unique(window, return_inverse=True)
        local = local.reshape(window.shape)
        names = np.zeros(len(ids), np.int32)
        if pieces:
            for new, old in _matches(local[0], ids, pieces[-1][-1]):
                names[new] = old
        fresh = (names == 0) & (ids > 0)
        names[fresh] = np.arange(count + 1, count + 1 + fresh.sum())
        count += int(fresh.sum())
        pieces.append(names[local][bool(pieces) :])
    if not pieces:
        raise ValueError("expected at least one window, got none")
    return np.concatenate(pieces)


def _matches(local: NDArray[np.intp], ids: NDArray[np.int32], before: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Pairs (index of an id, earlier id) of one frame that two windows share."""
    from scipy.optimize import linear_sum_assignment

    known, old = np.unique(before, return_inverse=True)
    both = np.bincount(local.ravel() * len(known) + old.ravel(), minlength=len(ids) * len(known))
    both = both.reshape(len(ids), len(known)).astype(np.float64)
    union = both.sum(1, keepdims=True) + both.sum(0) - both
    iou = np.where(union > 0, both / np.maximum(union, 1), 0)
    iou[ids == 0], iou[:, known == 0] = 0, 0
    iou[iou < MIN_IOU] = 0
    rows, columns = linear_sum_assignment(iou, maximize=True)
    return [(int(r), int(known[c])) for r, c in zip(rows, columns, strict=True) if iou[r, c] > 0]
