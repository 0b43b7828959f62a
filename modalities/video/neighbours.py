"""Nearest clips by their mean picture, for batches with hard negatives."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modalities.common.nearest import nearest_others
from modalities.video.sample import Clip

SIDE = 8
"""Cells of a side of the mean picture."""


def neighbours(clips: Sequence[Clip], count: int) -> NDArray[np.int64]:
    r"""The nearest other clips of each, nearest first, by the distance of their mean pictures.

    .. math:: s_{ij} = \frac{1}{1 + \lVert p_i - p_j \rVert^2}

    with p the mean over time, in cells of an 8 x 8 grid. It does not depend on the order of the frames: in a batch of
    such clips, what moves and in which order has to tell them apart.

    Args:
        clips: All of them, `n`. Time grows with n squared.
        count: Number of neighbours.

    Returns:
        Indices into `clips`, `(n, count)`, -1 where there are fewer; clips of equal frames are no neighbours.

    Example:
        >>> ramp = np.arange(0, 200, 50, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
        >>> neighbours([Clip(ramp, 8.0), Clip(ramp // 2, 8.0), Clip(ramp[::-1], 8.0)], 1).tolist()
        [[2], [0], [0]]
    """
    keys, pictures = list[bytes](), np.zeros((len(clips), SIDE * SIDE * 3), np.float32)
    for index, clip in enumerate(clips):  # one at a time: a lazy sequence reads each clip when it is its turn
        shape = str(clip.frames.shape).encode()
        keys.append(hashlib.blake2b(shape + np.ascontiguousarray(clip.frames).tobytes()).digest())
        pictures[index] = mean_picture(clip.frames).ravel() / 255
    pictures -= pictures.sum(0) / max(len(clips), 1)
    squares = (pictures**2).sum(1)

    def similarities(block: slice) -> NDArray[np.float32]:
        distances = squares[block, None] + squares - 2 * pictures[block] @ pictures.T
        alike: NDArray[np.float32] = 1 / (1 + np.maximum(distances, 0))
        return alike

    return nearest_others(keys, count, similarities)


def mean_picture(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean over time, and over each cell of an 8 x 8 grid, `(time, height, width, 3)` -> `(8, 8, 3)`."""
    picture: NDArray[np.float64] = frames.mean(0, dtype=np.float64)
    for axis, length in enumerate(picture.shape[:2]):
        edges = np.arange(SIDE + 1) * length // SIDE
        sizes = np.maximum(np.diff(edges), 1)  # fewer pixels than cells: the pixel that the cell begins in
        picture = np.add.reduceat(picture, edges[:-1], axis=axis) / np.expand_dims(sizes, (1 - axis, 2))
    return picture
