"""Picture of a clip: a strip of frames with their times."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADE = "#d62728"


def draw_strip(
    frames: NDArray[np.uint8],
    rate: float,
    axes: "Axes",
    *,
    count: int = 6,
    weights: Sequence[float] | None = None,
) -> None:
    """Draw evenly spaced frames in a row, the first and the last among them, each with its time.

    Args:
        frames: Grey `(time, height, width)`, or red, green, blue `(time, height, width, 3)`.
        rate: Frames per second.
        axes: Axes to draw on.
        count: Frames in the strip; of a shorter clip all are drawn.
        weights: One number of at least 0 for each equal segment of the clip, such as its attention weights: a bar under
            each frame is shaded by its segment's weight, relative to the largest.

    Raises:
        UserError: a weight is negative, NaN or infinite, or there is none.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> draw_strip(np.zeros((30, 64, 64), np.uint8), 15.0, axes, count=3)
        >>> [text.get_text() for text in axes.texts]
        ['0.00 s', '0.93 s', '1.93 s']
    """
    number, height, width = frames.shape[:3]
    indices = np.linspace(0, number - 1, min(count, number)).astype(int)
    gap = max(1, width // 32)
    strip = np.full((height, len(indices) * (width + gap) - gap, *frames.shape[3:]), 255, np.uint8)
    shades = None if weights is None else _shades(weights, (indices + 0.5) / number)
    for column, index in enumerate(indices):
        left = column * (width + gap)
        strip[:, left : left + width] = frames[index]
        axes.text(
            left + width / 2, 0.02 * height, f"{index / rate:.2f} s", ha="center", va="top", fontsize=7, color="white",
            bbox={"facecolor": "black", "alpha": 0.5, "pad": 0.8, "linewidth": 0},
        )  # fmt: skip
        if shades is not None:
            axes.fill_between(
                (left - 0.5, left + width - 0.5), height, 1.08 * height, color=SHADE, alpha=shades[column], linewidth=0
            )
    axes.imshow(strip, cmap="gray", vmin=0, vmax=255)
    axes.set_xlim(-0.5, strip.shape[1] - 0.5)
    axes.set_ylim(height * (1.1 if weights is not None else 1.0) - 0.5, -0.5)
    axes.set_axis_off()


def _shades(weights: Sequence[float], shares: NDArray[np.float64]) -> list[float]:
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values < 0).any():
        raise UserError("expected weights of at least 0, got none, a negative one, NaN or infinity")
    stretch = np.minimum((shares * len(values)).astype(int), len(values) - 1)
    return [float(shade) for shade in (values / max(values.max(), 1e-12))[stretch]]
