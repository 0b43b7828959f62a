"""Hand-crafted features of an image: oriented gradients, colours and local binary patterns."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalities.image.augment import Pixels

Floats = NDArray[np.float32]

SIDE = 64
"""Images are resized to this square, so that features of images of any size are comparable."""
CELLS = (8, 4, 2, 1)
"""Cells of the histograms of gradients, in each direction."""
ORIENTATIONS = 9
GRID = 8
LEVELS = 6
DISTANCES = (1, 2)
"""Distance of a pixel from the neighbours of its binary pattern, in pixels."""
THRESHOLD = 0.01
"""Difference of grey level (0..1) above which a neighbour is brighter."""

_NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))  # clockwise
_TURNED = np.array([min((code >> k | code << (8 - k)) & 255 for k in range(8)) for code in range(256)])
_PATTERNS = np.unique(_TURNED, return_inverse=True)[1]  # code -> class of the codes that are rotations of it
PATTERNS = int(_PATTERNS.max()) + 1

FAMILIES: Mapping[str, int] = {
    **{f"gradients {cells} x {cells}": cells * cells * ORIENTATIONS for cells in CELLS},
    "colours": GRID * GRID * 3,
    "contrast": GRID * GRID * 3,
    "histogram": LEVELS**3,
    "patterns": len(DISTANCES) * PATTERNS,
}
"""Families of features, in order, and their sizes."""
WIDTH = sum(FAMILIES.values())


def image_features(sample: Pixels) -> Floats:
    r"""Features of a whole image, squashed to 64 x 64 pixels.

    - gradients: histograms of the orientation of gradients (Dalal and Triggs, CVPR 2005) in 8 x 8, 4 x 4, 2 x 2 cells
      and in one; weighted by the gradient of the strongest channel, divided among the two nearest orientations, each
      cell h normalised to :math:`h / (\lVert h \rVert + 1)`.
    - colours, contrast: mean, and root of the standard deviation, of red, green and blue in 8 x 8 cells.
    - histogram: root of the fraction of pixels in each of 6 x 6 x 6 colours.
    - patterns: root of the fraction of pixels with each local binary pattern up to rotation (Ojala et al., PAMI 2002),
      with neighbours one and two pixels away.

    Args:
        sample: `(height, width, 3)` uint8.

    Returns:
        `(WIDTH,)`, in the order of `FAMILIES`.

    Example:
        >>> grey = np.full((20, 30, 3), 128, np.uint8)
        >>> features = dict(zip(FAMILIES, np.split(image_features(grey), np.cumsum([*FAMILIES.values()])[:-1])))
        >>> float(features["gradients 8 x 8"].max()), round(float(features["colours"].mean()), 3)
        (0.0, 0.502)
    """
    resized = Image.fromarray(sample).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    values: Floats = np.asarray(resized, np.float32) / np.float32(255)
    gradients = oriented_gradients(values, CELLS[0])
    blocks = values.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID, 3)
    levels = (values * LEVELS).astype(np.int64).clip(0, LEVELS - 1) @ np.array((LEVELS**2, LEVELS, 1))
    grey = values.mean(-1)
    features = [
        *(_normalised(gradients, cells).ravel() for cells in CELLS),
        blocks.mean((1, 3)).ravel(),
        np.sqrt(blocks.std((1, 3))).ravel(),
        _fractions(levels, LEVELS**3),
        *(_fractions(binary_patterns(grey, distance), PATTERNS) for distance in DISTANCES),
    ]
    return np.concatenate(features).astype(np.float32)


def oriented_gradients(values: Floats, cells: int) -> Floats:
    """Sums of gradients by orientation in square cells, `(cells, cells, ORIENTATIONS)`.

    Args:
        values: Square image, `(side, side, channels)`.
        cells: Cells in each direction; a divisor of the side.
    """
    down, across = np.zeros_like(values), np.zeros_like(values)
    down[1:-1], across[:, 1:-1] = values[2:] - values[:-2], values[:, 2:] - values[:, :-2]
    strongest = np.hypot(down, across).argmax(-1)[..., None]
    down, across = (np.take_along_axis(one, strongest, -1)[..., 0] for one in (down, across))
    position = np.arctan2(down, across) % np.pi / np.pi * ORIENTATIONS - 0.5
    lower = np.floor(position).astype(np.int64)
    upper_weight, size = position - lower, np.hypot(down, across)
    row, column = np.indices(size.shape) // (len(size) // cells)
    first, total = (row * cells + column) * ORIENTATIONS, cells * cells * ORIENTATIONS
    sums = np.bincount((first + lower % ORIENTATIONS).ravel(), (size * (1 - upper_weight)).ravel(), total)
    sums += np.bincount((first + (lower + 1) % ORIENTATIONS).ravel(), (size * upper_weight).ravel(), total)
    return sums.reshape(cells, cells, ORIENTATIONS).astype(np.float32)


def binary_patterns(grey: Floats, distance: int) -> NDArray[np.int64]:
    """Class of the local binary pattern of each pixel that is not at the border.

    Args:
        grey: `(side, side)` in 0..1.
        distance: Distance of the eight neighbours.

    Returns:
        `(side - 2 * distance, side - 2 * distance)` in `0..PATTERNS - 1`; patterns that are rotations of each other by
        multiples of 45 degrees have one class.
    """
    inner = len(grey) - 2 * distance
    centre = grey[distance:-distance, distance:-distance] + THRESHOLD
    codes = np.zeros(centre.shape, np.int64)
    for bit, (row, column) in enumerate(_NEIGHBOURS):
        top, left = row * distance, column * distance
        codes |= (grey[top : top + inner, left : left + inner] > centre).astype(np.int64) << bit
    classes: NDArray[np.int64] = _PATTERNS[codes]
    return classes


def _normalised(fine: Floats, cells: int) -> Floats:
    step = len(fine) // cells
    sums = fine.reshape(cells, step, cells, step, ORIENTATIONS).sum((1, 3))
    normalised: Floats = sums / (np.sqrt((sums**2).sum(-1, keepdims=True)) + 1)
    return normalised


def _fractions(classes: NDArray[np.int64], count: int) -> Floats:
    return np.sqrt(np.bincount(classes.ravel(), minlength=count) / classes.size).astype(np.float32)
