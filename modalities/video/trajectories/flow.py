"""Superpixels of each frame, linked over time by optical flow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.registry import missing_extra
from modalities.video.trajectories.merging import merge_similar
from modalities.video.trajectories.one_thread import one_thread

COMPACTNESS = 10.0
"""SLIC's weight of distance against colour, in Lab."""

MIN_SHARE = 0.3
"""Smallest fraction of a superpixel's pixels that must come from one trajectory for the superpixel to continue it."""

SMALLEST_SIDE = 32
"""Smaller frames are enlarged for the flow, whose patches are 8 pixels wide on every level of the pyramid."""


def flow_linked(frames: NDArray[np.uint8], *, segments: int = 64, merge: float = 0.1) -> NDArray[np.int32]:
    """Trajectories for large motion: SLIC superpixels of each frame, linked by DIS optical flow (Kroeger et al. 2016).

    The flow from each frame to the one before carries that frame's trajectories to the pixels of this one; pixels
    whose forward and backward flow disagree (Sundaram et al. 2010, eq. 5) carry none. A superpixel continues
    the trajectory of most of its pixels, where these are at least 30 % of it; otherwise it starts a new trajectory.
    Deterministic; one thread; two frames in memory besides the labels; time is linear in the number of frames.

    Args:
        frames: Red, green, blue, `(time, height, width, 3)` uint8.
        segments: Requested number of superpixels of a frame, before merging.
        merge: Adjacent superpixels whose mean colours (RGB in 0..1) are nearer than this are merged; 0 = none.

    Shape:
        Returns ids from 1, `(time, height, width)`.

    Raises:
        UserError: scikit-image or OpenCV is not installed.
    """
    with one_thread() as cv2:
        estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        labels = np.zeros(frames.shape[:3], np.int32)
        labels[0], before = _superpixels(frames[0], segments, merge), _grey(cv2, frames[0])
        count = int(labels[0].max())
        for time in range(1, len(frames)):
            grey = _grey(cv2, frames[time])
            carried = _carry(labels[time - 1], *_flows(cv2, estimator, before, grey, labels.shape[1:]))
            labels[time], count = _continue(_superpixels(frames[time], segments, merge), carried, count)
            before = grey
    return labels


def _superpixels(frame: NDArray[np.uint8], segments: int, merge: float) -> NDArray[np.int32]:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise missing_extra("scikit-image", "video") from error
    pixels = frame.shape[0] * frame.shape[1]
    labels = slic(frame, n_segments=max(min(segments, pixels), 1), compactness=COMPACTNESS, start_label=1)
    colours = frame.astype(np.float32) / np.float32(255)
    merged: NDArray[np.int32] = merge_similar(labels[None].astype(np.int32), colours[None], merge)[0]
    return merged


def _grey(cv2: Any, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = max(1, -(-SMALLEST_SIDE // min(grey.shape)))
    enlarged: NDArray[np.uint8] = grey.repeat(scale, 0).repeat(scale, 1)
    return enlarged


def _flows(
    cv2: Any, estimator: Any, before: NDArray[np.uint8], after: NDArray[np.uint8], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flow from this frame back to the one before, and from that to this, in pixels of the given shape."""
    scale = before.shape[0] // shape[0]
    backward, forward = estimator.calc(after, before, None), estimator.calc(before, after, None)
    centre = scale // 2
    return backward[centre::scale, centre::scale] / scale, forward[centre::scale, centre::scale] / scale


def _carry(labels: NDArray[np.int32], backward: NDArray[np.float32], forward: NDArray[np.float32]) -> NDArray[np.int32]:
    """The trajectory that each pixel comes from; 0 = outside of the frame before, or occluded."""
    height, width = labels.shape
    y, x = np.mgrid[:height, :width]
    from_x, from_y = np.rint(x + backward[..., 0]).astype(int), np.rint(y + backward[..., 1]).astype(int)
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    from_x, from_y = from_x.clip(0, width - 1), from_y.clip(0, height - 1)
    returned = forward[from_y, from_x]
    error = ((backward + returned) ** 2).sum(-1)
    bound = 0.01 * ((backward**2).sum(-1) + (returned**2).sum(-1)) + 0.5
    return np.where(inside & (error < bound), labels[from_y, from_x], 0)


def _continue(superpixels: NDArray[np.int32], carried: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], int]:
    """The trajectories of this frame's superpixels, by majority; and the number of trajectories so far."""
    known, local = np.unique(carried, return_inverse=True)
    number = int(superpixels.max())
    votes = np.bincount((superpixels.ravel() - 1) * len(known) + local.ravel(), minlength=number * len(known))
    votes = votes.reshape(number, len(known))
    sizes = votes.sum(1)
    votes[:, known == 0] = 0
    best = votes.argmax(1)
    names = np.where(votes[np.arange(number), best] >= MIN_SHARE * sizes, known[best], 0)
    names[votes[np.arange(number), best] == 0] = 0
    fresh = names == 0
    names[fresh] = np.arange(count + 1, count + 1 + fresh.sum())
    return names[superpixels - 1].astype(np.int32), count + int(fresh.sum())
