"""Frames of a moving camera, aligned to one of them: a still scene is then still."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.video.trajectories.one_thread import one_thread

WORKING_SIDE = 96
"""Side of a square with as many pixels as the pictures of which the motion is estimated."""

SMALLEST_SIDE = 32
"""Smallest side of these pictures, in pixels; the flow has patches of 8 pixels on every level of its pyramid."""

STEP = 4
"""Distance of the pixels whose flow is used, in working pixels."""

INLIER = 1.0
"""Largest distance of an inlier of the fit, in working pixels."""

LEAST_MOTION = 1.0
"""Smallest displacement of a corner of any frame, in pixels, that is a moving camera."""

LARGEST_ERROR = 0.7
"""Largest mean absolute difference to the reference frame after alignment, relative to that before."""

LARGEST_CANVAS = 4.0
"""Largest area of the canvas, in areas of a frame."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """Frames aligned to the middle one, on the area that any of them shows.

    Args:
        frames: Aligned frames, `(time, rows, columns, 3)` uint8. A pixel that a frame does not show has the colour of
            the nearest frame in time that shows it.
        maps: From pixels (x, y) of each frame to pixels of the canvas, `(time, 2, 3)`.
        shape: Height and width of a frame.
    """

    frames: NDArray[np.uint8]
    maps: NDArray[np.float64]
    shape: tuple[int, int]

    @property
    def area(self) -> float:
        """Area in areas of a frame."""
        return self.frames[0, ..., 0].size / (self.shape[0] * self.shape[1])

    def to_frames(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Labels of the canvas `(time, rows, columns)`, at the pixels of the frames `(time, height, width)`."""
        x, y = _points(*self.shape)
        out = np.empty((len(labels), *self.shape), np.int32)
        for frame, own, matrix in zip(out, labels, self.maps, strict=True):
            at = np.rint(matrix[:, :2] @ np.stack([x, y]) + matrix[:, 2:]).astype(int)
            column, row = at[0].clip(0, own.shape[1] - 1), at[1].clip(0, own.shape[0] - 1)
            frame[:] = own[row, column].reshape(self.shape)
        return out


def aligned(frames: NDArray[np.uint8]) -> Canvas | None:
    """Align the frames of a moving camera.

    The flow (DIS, Kroeger et al. 2016) between successive frames gives a similarity transform (shift, turn, scale) by
    RANSAC, so that moving objects which cover less than half of the picture do not count. The transforms are chained
    to the middle frame, and refined by the flow between the middle frame and each aligned frame.

    Args:
        frames: Red, green, blue, `(time, height, width, 3)` uint8.

    Returns:
        None where the camera stands still, where alignment does not make the frames more equal, and where the canvas
        would be more than four times as large as a frame.

    Raises:
        UserError: OpenCV is not installed.
    """
    sides = np.array(frames.shape[1:3])
    working = np.rint(sides * WORKING_SIDE / np.sqrt(sides.prod())).astype(int)
    if len(frames) < 2 or sides.min() < 8 or working.min() < SMALLEST_SIDE:
        return None
    scale = (working / sides)[::-1, None]  # of x and of y
    with one_thread() as cv2:
        greys = [_grey(cv2, frame, (int(working[1]), int(working[0]))) for frame in frames]
        maps = _chained(cv2, greys)
        corners = _corners(*greys[0].shape)
        shift = (np.abs(maps[:, :, :2] @ corners + maps[:, :, 2:] - corners) / scale).max()
        if shift < LEAST_MOTION:
            return None
        maps = _refined(cv2, greys, maps)
        if _error(cv2, greys, maps) > LARGEST_ERROR * _error(cv2, greys, np.broadcast_to(np.eye(2, 3), maps.shape)):
            return None
        return _canvas(cv2, frames, _rescaled(maps, scale))


def _grey(cv2: Any, frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    larger = size[0] > grey.shape[1]
    resized: NDArray[np.uint8] = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR if larger else cv2.INTER_AREA)
    return resized


def _motion(
    cv2: Any, estimator: Any, one: NDArray[np.uint8], other: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """The similarity transform from pixels of one picture to those of another; the identity where none is found."""
    flow = estimator.calc(one, other, None)[::STEP, ::STEP]
    y, x = np.mgrid[: one.shape[0] : STEP, : one.shape[1] : STEP]
    points = np.stack([x, y], axis=-1).astype(np.float32)
    chosen = np.ones(points.shape[:2], bool) if valid is None else valid[::STEP, ::STEP]
    if chosen.sum() < 8:
        return np.eye(2, 3)
    matrix, inliers = cv2.estimateAffinePartial2D(
        points[chosen], (points + flow)[chosen], method=cv2.RANSAC, ransacReprojThreshold=INLIER
    )
    good = matrix is not None and np.isfinite(matrix).all() and inliers.mean() >= 0.5
    return np.asarray(matrix, np.float64) if good else np.eye(2, 3)


def _chained(cv2: Any, greys: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """From each frame to the middle one, `(time, 2, 3)`."""
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    middle = len(greys) // 2
    maps = np.tile(np.eye(2, 3), (len(greys), 1, 1))
    for time in range(middle - 1, -1, -1):
        maps[time] = _composed(maps[time + 1], _motion(cv2, estimator, greys[time], greys[time + 1]))
    for time in range(middle + 1, len(greys)):
        maps[time] = _composed(maps[time - 1], _motion(cv2, estimator, greys[time], greys[time - 1]))
    return maps


def _refined(cv2: Any, greys: list[NDArray[np.uint8]], maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transforms, corrected by the flow between each aligned frame and the middle one."""
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    reference = greys[len(greys) // 2]
    refined = maps.copy()
    for time, grey in enumerate(greys):
        warped, valid = _warped(cv2, grey, maps[time], reference.shape)
        if valid.mean() >= 0.25:
            refined[time] = _composed(_motion(cv2, estimator, warped, reference, valid), maps[time])
    return refined


def _error(cv2: Any, greys: list[NDArray[np.uint8]], maps: NDArray[np.float64]) -> float:
    """Mean absolute difference between successive frames after alignment, where both show the scene."""
    reference = greys[len(greys) // 2]
    pictures = [_warped(cv2, grey, matrix, reference.shape) for grey, matrix in zip(greys, maps, strict=True)]
    total, count = 0.0, 0
    for picture, valid in pictures:
        total += np.abs(picture.astype(np.float64) - reference)[valid].sum()
        count += int(valid.sum())
    return total / max(count, 1)


def _warped(
    cv2: Any, picture: NDArray[np.uint8], matrix: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture in other coordinates, and where it is known."""
    size = (shape[1], shape[0])
    warped = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inverse = cv2.invertAffineTransform(matrix)
    x, y = _points(*shape[:2])
    at = inverse[:, :2] @ np.stack([x, y]) + inverse[:, 2:]
    inside = (at >= -0.5).all(0) & (at[0] <= picture.shape[1] - 0.5) & (at[1] <= picture.shape[0] - 0.5)
    return warped, inside.reshape(shape[:2])


def _canvas(cv2: Any, frames: NDArray[np.uint8], maps: NDArray[np.float64]) -> Canvas | None:
    height, width = frames.shape[1:3]
    corners = maps[:, :, :2] @ _corners(height, width) + maps[:, :, 2:]
    low, high = np.floor(corners.min((0, 2))), np.ceil(corners.max((0, 2)))
    columns, rows = (high - low + 1).astype(int).tolist()
    if rows * columns > LARGEST_CANVAS * height * width:
        return None
    maps = maps.copy()
    maps[:, :, 2] -= low
    pictures, valid = zip(
        *(_warped(cv2, f, m, (rows, columns)) for f, m in zip(frames, maps, strict=True)), strict=True
    )
    return Canvas(_filled(np.stack(pictures), np.stack(valid)), maps, (height, width))


def _filled(pictures: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels that a frame does not show take the colour of the nearest frame that shows them, the earlier of two."""
    times = np.arange(len(valid)).reshape(-1, 1, 1)
    far = 2 * len(valid)
    before = np.maximum.accumulate(np.where(valid, times, -far), axis=0)
    after = np.minimum.accumulate(np.where(valid, times, far)[::-1], axis=0)[::-1]
    nearest = np.where(times - before <= after - times, before, after)
    nearest = np.where((nearest < 0) | (nearest >= len(valid)), times, nearest)  # no frame shows it
    filled: NDArray[np.uint8] = np.take_along_axis(pictures, nearest[..., None], axis=0)
    return filled


def _points(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates x and y of all pixels, row by row."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x.ravel(), y.ravel()


def _corners(height: int, width: int) -> NDArray[np.float64]:
    """Coordinates x and y of the corner pixels, `(2, 4)`."""
    return np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1]], np.float64)


def _composed(after: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """One transform after another."""
    return np.concatenate([after[:, :2] @ first[:, :2], after[:, :2] @ first[:, 2:] + after[:, 2:]], axis=1)


def _rescaled(maps: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """From working pixels to those of the frames, by the scale of x and of y `(2, 1)`: x' + 0.5 = scale (x + 0.5)."""
    linear, shift = maps[:, :, :2], maps[:, :, 2:]
    offset = (scale - 1) / 2
    return np.concatenate([linear * scale.T / scale, (linear @ offset + shift - offset) / scale], axis=2)
