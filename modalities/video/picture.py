"""Picture of a clip: a strip of frames with their times."""

from typing import TYPE_CHECKING

from modalities.common.film_strip import draw_strip
from modalities.video.sample import Clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_clip(clip: Clip, axes: "Axes") -> None:
    """Draw a strip of frames."""
    draw_strip(clip.frames, clip.rate, axes)
