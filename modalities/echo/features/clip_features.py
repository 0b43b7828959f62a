"""Hand-crafted clip features: brightness, amount, location and frequency of motion."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

GRID = 8
"""Cells along each side of the frame."""
HERTZ = np.arange(1, 11) / 2
"""Frequencies of motion in Hz: 30 to 300 per minute."""
LAGS = 41
"""Lags in frames."""
COMPONENTS = 6

CELL = ("level", "movement")
"""Features of a cell."""
WHOLE = ("spectrum",) * len(HERTZ) + ("lags",) * LAGS + ("components",) * COMPONENTS
"""Features of a whole clip, by family."""


def measure(frames: NDArray[np.uint8], rate: float) -> tuple[Values, Values]:
    """All features of one clip; NaN where it is too short for them.

    Args:
        frames: `(time, size, size)`, grey levels; size a multiple of `GRID`.
        rate: Frames per second.

    Returns:
        By cell, row by row, `(64, 2)`: mean grey level, and log of its standard deviation over time. Of the whole
        `(57,)`: log amplitude at the frequencies of `HERTZ`, mean over cells; log mean squared difference of frames at
        lags of 1 to 41 frames, with minima at the heart's period; log of the six largest principal standard deviations
        over time (square roots of the eigenvalues of the covariance).
    """
    pixels = frames.astype(np.float64)
    count, size = pixels.shape[:2]
    cell = size // GRID
    cells = pixels.reshape(count, GRID, cell, GRID, cell).mean((2, 4)).reshape(count, -1)
    change = cells - cells.mean(0)
    window = np.hanning(count)
    waves = np.exp(-2j * np.pi * HERTZ[:, None] * np.arange(count) / rate) * window
    spectrum = np.log(np.abs(waves @ change) / max(window.sum(), 1e-9) + 0.1).mean(1)
    spectrum[0.5 * rate / count > HERTZ] = np.nan  # less than half a period
    spectrum[rate / 2 < HERTZ] = np.nan
    flat = _smooth(pixels)
    flat = (flat - flat.mean(0)).reshape(count, -1)
    gram = flat @ flat.T / flat.shape[1]
    apart = np.diag(gram)[:, None] + np.diag(gram) - 2 * gram
    lags = np.full(LAGS, np.nan)
    for lag in range(1, min(LAGS, count - 1) + 1):
        lags[lag - 1] = np.log(max(float(np.diagonal(apart, lag).mean()), 0.0) + 0.1)
    strongest = np.full(COMPONENTS, np.nan)
    sizes = np.sqrt(np.linalg.eigvalsh(gram)[::-1][:COMPONENTS].clip(0))
    strongest[: len(sizes)] = np.log(sizes + 0.1)
    by_cell = np.stack([cells.mean(0), np.log(cells.std(0) + 1)], 1)
    return by_cell, np.concatenate([spectrum, lags, strongest])


def _smooth(pixels: NDArray[Any]) -> NDArray[Any]:
    """Mean over 3x3 pixels, which suppresses speckle."""
    height, width = pixels.shape[1:]
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return np.asarray(sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9)
