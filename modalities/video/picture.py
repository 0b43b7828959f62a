"""Picture of a clip: a strip of frames with their times, and the outlines of its trajectories where they are known."""

import colorsys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modalities.common.film_strip import draw_strip
from modalities.video.sample import Clip
from modalities.video.trajectories import trajectory_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNT = 6
"""Frames in a strip."""

MAX_OUTLINED = 4096
GOLDEN = 0.618034
"""Step of the hue between two trajectories, in turns: neighbours in the order get colours far apart."""


def draw_clip(clip: Clip, axes: "Axes") -> None:
    """Draw a strip of frames; each trajectory has an outline of its own colour, the same in all frames."""
    draw_strip(clip.frames if clip.tracks is None else outlined(clip), clip.rate, axes, count=COUNT)


def outlined(clip: Clip) -> NDArray[np.uint8]:
    """The frames of a clip with trajectories, with coloured outlines in those that a strip shows."""
    assert clip.tracks is not None
    shown = np.linspace(0, len(clip) - 1, min(COUNT, len(clip))).astype(int)
    tracks = trajectory_map(clip.tracks, MAX_OUTLINED)[shown]
    border = np.zeros(tracks.shape, bool)
    for axis in (1, 2):
        border |= (tracks != np.roll(tracks, 1, axis)) | (tracks != np.roll(tracks, -1, axis))
    border[:, [0, -1]] = border[:, :, [0, -1]] = False  # the picture's edge is none of an object
    hues = [colorsys.hsv_to_rgb(index * GOLDEN % 1, 1, 1) for index in range(int(tracks.max()) + 1)]
    colours = (255 * np.array(hues)).astype(np.uint8)
    frames = clip.frames.copy()
    frames[shown] = np.where(border[..., None], colours[tracks], frames[shown])
    return frames
