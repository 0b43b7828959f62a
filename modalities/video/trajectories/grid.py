"""Grid tubes: fixed patches over all time, the baseline without any tracking."""

import numpy as np
from numpy.typing import NDArray


def grid_tubes(shape: tuple[int, int, int], *, segments: int = 64) -> NDArray[np.int32]:
    """Divide a clip into rectangular patches, each of them one trajectory for the whole clip.

    Args:
        shape: Frames, height and width in pixels.
        segments: Requested number of tubes; rows times columns is near it, and at most the number of pixels.

    Shape:
        Returns ids from 1, `(time, height, width)`.

    Example:
        >>> grid_tubes((2, 4, 4), segments=4)[1].tolist()
        [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    """
    time, height, width = shape
    rows = min(max(round((segments * height / width) ** 0.5), 1), height)
    columns = min(max(round(segments / rows), 1), width)
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    tubes = (row[:, None] * columns + column + 1).astype(np.int32)
    return np.broadcast_to(tubes, (time, height, width)).copy()
