"""Masks of objects, which may overlap, as trajectories."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample
from modalities.video.sample import Tracks


def from_masks(masks: Sequence[NDArray[np.bool_]]) -> Tracks:
    """Trajectories of objects given as one mask volume each.

    Where masks overlap in a frame, the pixel belongs to the object with the fewest pixels in that frame (the first of
    equal ones): a hand before a body keeps its pixels. Ids are never summed, as TrajViT's released code does, and
    there may be more than 255 objects.

    Args:
        masks: One volume for each object, `(time, height, width)`, nonzero = object.

    Shape:
        Row m of the table is object m, also where it is never seen.

    Raises:
        BadSample: there is no mask, or their shapes differ.

    Example:
        >>> large, small = np.array([[[1, 1, 1]]]), np.array([[[0, 1, 0]]])
        >>> from_masks([large, small]).labels.tolist()
        [[[1, 2, 1]]]
    """
    volumes = [np.asarray(mask, dtype=bool) for mask in masks]
    shapes = {volume.shape for volume in volumes}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise BadSample("masks", "at least one, all of one shape (time, height, width)", f"shapes {sorted(shapes)}")
    areas = np.array([volume.sum((1, 2)) for volume in volumes])
    labels = np.zeros(volumes[0].shape, np.int32)
    for time, frame in enumerate(labels):
        seen = np.flatnonzero(areas[:, time])
        for index in seen[np.argsort(-areas[seen, time], kind="stable")]:
            frame[volumes[index][time]] = index + 1
    present = np.array([np.bincount(frame.ravel(), minlength=len(volumes) + 1)[1:] > 0 for frame in labels]).T
    return Tracks(labels, np.where(present, np.arange(1, len(volumes) + 1)[:, None], 0).astype(np.int32))
