"""Picture of a clip: a strip of frames with their times."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modalities.common import film_strip
from modalities.echo.sample import Echo

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_strip(echo: Echo, axes: "Axes", *, count: int = 6, weights: Sequence[float] | None = None) -> None:
    """Draw evenly spaced frames in a row, see `modalities.common.film_strip.draw_strip`."""
    film_strip.draw_strip(echo.frames, echo.rate, axes, count=count, weights=weights)
