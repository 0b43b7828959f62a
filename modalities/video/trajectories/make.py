"""The trajectories of a clip by any of the methods, as the transform needs them."""

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample, UserError
from mmalign.registry import nearest
from modalities.video.sample import Tracks
from modalities.video.trajectories.flow import flow_linked
from modalities.video.trajectories.grid import grid_tubes
from modalities.video.trajectories.maps import trajectory_map
from modalities.video.trajectories.slic import supervoxels

METHODS = ("masks", "supervoxels", "flow", "grid")
"""Ways to obtain trajectories."""


def make(
    frames: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None = None,
    *,
    method: str = "supervoxels",
    segments: int = 64,
    max_tracks: int = 128,
    tracks: Tracks | None = None,
) -> NDArray[np.int32]:
    """The trajectory of each pixel of a clip.

    Every pixel of a real frame belongs to exactly one trajectory: see `trajectory_map`.

    Args:
        frames: Red, green, blue, `(time, height, width, 3)` uint8.
        mask: True = real frame, `(time,)`; the others get no trajectory. None = all are real.
        method: masks = the clip's own `tracks`; supervoxels; flow = superpixels linked by optical flow; grid = fixed
            patches.
        segments: Requested number of supervoxels, superpixels or patches.
        max_tracks: Largest number of trajectories, the background included.
        tracks: The clip's own trajectories, of the same times and size as the frames.

    Shape:
        Returns index + 1, 0 in frames that are not real, `(time, height, width)`.

    Raises:
        UserError: there is no such method, or a package is missing.
        BadSample: the method is masks, and there are no tracks, or they have another shape.

    Example:
        >>> make(np.zeros((2, 4, 4, 3), np.uint8), np.array([True, False]), method="grid", segments=4)[:, 0].tolist()
        [[1, 1, 2, 2], [0, 0, 0, 0]]
    """
    if method not in METHODS:
        raise UserError(f"no way {method!r} to make trajectories{nearest(method, METHODS)}: {', '.join(METHODS)}")
    real = np.ones(len(frames), bool) if mask is None else mask
    maps = np.zeros(frames.shape[:3], np.int32)
    if not real.any():
        return maps
    seen = frames[real]
    if method == "masks":
        own = _own(tracks, frames.shape[:3]).at(np.flatnonzero(real))
    elif method == "grid":
        own = Tracks.from_labels(grid_tubes(seen.shape[:3], segments=segments))
    else:
        own = Tracks.from_labels((supervoxels if method == "supervoxels" else flow_linked)(seen, segments=segments))
    maps[real] = trajectory_map(own, max_tracks)
    return maps


def _own(tracks: Tracks | None, shape: tuple[int, ...]) -> Tracks:
    if tracks is None:
        raise BadSample(
            "a clip", "masks of its objects (or transform.tracks: supervoxels, flow or grid)", "a clip without masks"
        )
    if tracks.labels.shape != shape:
        raise BadSample("a clip", f"masks of shape {shape}", f"masks of shape {tracks.labels.shape}")
    return tracks
