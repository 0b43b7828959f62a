"""Supervoxels: SLIC on the volume of frames, window by window."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmalign.registry import missing_extra
from modalities.video.trajectories.camera import aligned
from modalities.video.trajectories.merging import merge_similar
from modalities.video.trajectories.stitching import stitch

ITERATIONS = 5
"""Iterations of SLIC's k-means."""

MIN_SIZE = 0.2
"""Smallest supervoxel, relative to the mean size of the initial ones; smaller ones join a neighbour."""

MEDIAN = 3
"""Width in pixels of the median filter before SLIC: fine texture does not divide an object, and edges stay sharp."""

SPACING = 1.0
"""Length of a step in time, in pixels: short, so that supervoxels are long in time."""


def supervoxels(
    frames: NDArray[np.uint8],
    *,
    segments: int = 64,
    compactness: float = 0.1,
    merge: float = 0.1,
    window: int = 16,
    align: bool = True,
) -> NDArray[np.int32]:
    """Trajectories by SLIC supervoxels (Achanta et al. 2012; scikit-image), without weights; deterministic.

    Each window of frames is one volume; frames of a moving camera are aligned first, see `aligned`, so that supervoxels
    follow the scene. SLIC over-segments the volume, and adjacent supervoxels of similar mean colour are merged, in
    space and in time, so that a uniform region is one trajectory. Windows share one frame and are stitched, see
    `stitch`: memory beyond the labels is bounded by the window, and time is linear in the number of frames.

    Args:
        frames: Red, green, blue, `(time, height, width, 3)` uint8.
        segments: Requested number of supervoxels of a window, before merging.
        compactness: Weight of distance against colour, for colours in 0..1.
        merge: Adjacent supervoxels whose mean colours (RGB in 0..1) are nearer than this are merged; 0 = none.
        window: Frames of a window; at least 2.
        align: Align the frames of a moving camera.

    Shape:
        Returns ids from 1, `(time, height, width)`.

    Raises:
        UserError: scikit-image or OpenCV is not installed.
        ValueError: the window has fewer than 2 frames.

    Example:
        >>> frames = np.zeros((4, 16, 16, 3), np.uint8)
        >>> frames[:, :, 8:] = 200
        >>> np.unique(supervoxels(frames, segments=4)[:, 0], axis=0).tolist()
        [[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]]
    """
    if window < 2:
        raise ValueError(f"expected a window of at least 2 frames, got {window}")
    return stitch(_windows(frames, window, partial(_segment, segments, compactness, merge, align)))


def _windows(
    frames: NDArray[np.uint8], window: int, segment: Callable[[NDArray[np.uint8]], NDArray[np.int32]]
) -> Iterator[NDArray[np.int32]]:
    done = 0  # the last frame that has labels
    while True:
        first = max(min(done, len(frames) - window), 0)  # the last window is as long as the others
        yield segment(frames[first : first + window])[done - first :]
        done = first + window - 1
        if done >= len(frames) - 1:
            return


def _segment(
    segments: int, compactness: float, merge: float, align: bool, frames: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """SLIC and merging of one window."""
    try:
        from scipy.ndimage import median_filter
        from skimage.segmentation import slic
    except ImportError as error:
        raise missing_extra("scikit-image", "video") from error

    time, height, width = frames.shape[:3]
    segments = max(min(segments, height * width), 1)
    least = MIN_SIZE * frames[..., 0].size / segments
    canvas = aligned(frames) if align else None
    if canvas is not None:
        frames = canvas.frames
        # SLIC's seeds are equally far apart along all three axes: on a larger area, this many are as many in a frame
        segments = max(round(segments * canvas.area**-0.5), 1)
    colours = median_filter(frames, (1, MEDIAN, MEDIAN, 1)).astype(np.float32) / 255
    labels = slic(
        colours, n_segments=segments, compactness=compactness, start_label=1,
        spacing=(SPACING, 1, 1), max_num_iter=ITERATIONS, convert2lab=False, min_size_factor=MIN_SIZE,
        max_size_factor=time * segments, channel_axis=-1,
    )  # fmt: skip
    labels = np.ascontiguousarray(labels, np.int32)
    if canvas is None:
        return merge_similar(labels, colours, merge)
    seen = np.bincount(canvas.to_frames(labels).ravel(), minlength=int(labels.max()) + 1)
    return canvas.to_frames(merge_similar(labels, colours, merge, seen=seen, least=least))
