"""Features of a shape seen from above."""

import numpy as np

from modalities.pointcloud.features.histograms import Numbers, histogram

GRID = 24
"""Cells of the view along each axis."""

GROUND = 0.1
"""Lowest part of the shape, which stands on the ground."""

TOP = 13


def top_view(flat: Numbers, level: Numbers) -> Numbers:
    """Occupied fraction, feet, holes and heights of the shape seen from above.

    Args:
        flat: Horizontal coordinates in -0.5..0.5, `(n, 2)`.
        level: Height as a fraction of the height of the shape, `(n,)`.

    Returns:
        `(TOP,)`: the fraction of the cells with points, and with points near the ground; the logarithm of the number
        of separate pieces near the ground (feet), plus 1; the number of empty regions, the outside included; a
        histogram of the highest point of each cell in 8 bins, and its standard deviation.

    Example:
        >>> table = np.array([[-0.4, -0.4], [0.4, -0.4], [-0.4, 0.4], [0.4, 0.4], [0.0, 0.0]])
        >>> np.expm1(top_view(table, np.array([0.0, 0.0, 0.0, 0.0, 1.0]))[2]).round().item()
        4.0
    """
    from scipy import ndimage  # here, so that `mmalign list` need not load SciPy

    x, y = ((flat + 0.5) * GRID).astype(np.int64).clip(0, GRID - 1).T
    highest = np.full((GRID, GRID), -1.0)
    np.maximum.at(highest, (x, y), level)
    seen, ground = highest >= 0, np.zeros((GRID, GRID), dtype=bool)
    low = level < GROUND
    ground[x[low], y[low]] = True
    square = np.ones((2, 2))  # closes gaps of one cell between points
    feet = ndimage.label(ndimage.binary_closing(np.pad(ground, 2), square))[1]
    empty = ndimage.label(~ndimage.binary_closing(np.pad(seen, 2), square))[1]
    heights = highest[seen]
    return np.array([
        seen.mean(), ground.mean(), np.log1p(feet), empty, *histogram(heights, 8, 0, 1), heights.std(),
    ])  # fmt: skip
