"""One clip in memory: colour frames on a regular clock, and the trajectories of its objects where they are known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmalign.errors import BadSample

MAX_FRAMES = 256
"""Maximum number of frames of a clip; longer clips are sampled uniformly."""

SHORT_SIDE = 256
"""Largest height or width, whichever is smaller: larger frames are reduced while decoding."""

LONG_SIDE = 1024
"""Largest height and width: 256 frames of 256 x 1024 are 192 MB in memory."""

MIN_SIDE = 8
"""Smallest height and width of a frame, in pixels."""

MAX_TRACKS = 1 << 16
"""Maximum number of trajectories of a clip."""

RATES = (1 / 3600, 1000.0)
"""Plausible frame rates, in frames per second: a long video of which few frames are kept has a low one."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Trajectories: the segments of each frame, and which of them are one object at different times.

    Segment ids may be per frame (TrajViT's files) or global (SAM 2, DAVIS, supervoxels: the same id in every frame).

    Args:
        labels: Segment id of each pixel, 0 = none, `(time, height, width)` int32.
        table: Segment id of each trajectory in each frame, 0 = absent, `(trajectories, time)` int32.

    Example:
        >>> tracks = Tracks.from_labels(np.array([[[0, 7], [2, 2]], [[0, 0], [2, 2]]]))
        >>> tracks.table.tolist()
        [[2, 2], [7, 0]]
    """

    labels: NDArray[np.int32]
    table: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        return self.labels.nbytes + self.table.nbytes

    @staticmethod
    def from_labels(labels: NDArray[Any]) -> "Tracks":
        """Trajectories of global ids: one for each id, in ascending order.

        Args:
            labels: Ids, 0 = none, `(time, height, width)` integers.
        """
        each = [np.unique(frame) for frame in labels]
        ids = np.unique(np.concatenate(each)) if each else np.zeros(0, np.int32)
        ids = ids[ids > 0]
        present = np.stack([np.isin(ids, frame) for frame in each], axis=1) if each else np.zeros((0, 0), bool)
        return Tracks(labels.astype(np.int32, copy=False), np.where(present, ids[:, None], 0).astype(np.int32))

    def at(self, indices: NDArray[Any]) -> "Tracks":
        """The trajectories in some of the frames; rows of the table stay, also those that are absent in all of them.

        Args:
            indices: Indices of frames, `(kept,)`.
        """
        return Tracks(self.labels[indices], self.table[:, indices])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Tracks)
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.table, other.table)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames at a constant rate.

    Args:
        frames: Red, green, blue in 0..255, `(time, height, width, 3)` uint8.
        rate: Frames per second.
        tracks: Trajectories of the same size as the frames; None = not known.
        faults: Descriptions of faults found while reading; empty for a good clip.

    Example:
        >>> clip = Clip(np.zeros((30, 48, 64, 3), np.uint8), 15.0)
        >>> len(clip), clip.seconds, clip.nbytes
        (30, 2.0, 276480)
    """

    frames: NDArray[np.uint8]
    rate: float
    tracks: Tracks | None = None
    faults: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.frames) / self.rate

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        return self.frames.nbytes + (0 if self.tracks is None else self.tracks.nbytes)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Clip)
            and (self.rate, self.faults) == (other.rate, other.faults)
            and np.array_equal(self.frames, other.frames)
            and self.tracks == other.tracks
        )

    __hash__ = None  # type: ignore[assignment]


def check_clip(source: object, clip: Clip) -> Clip:
    """The clip, after checking types, bounds and that trajectories fit the frames.

    Raises:
        BadSample: a type, a size, the rate or the trajectories are not as `Clip` and `Tracks` state.

    Example:
        >>> check_clip("x", Clip(np.zeros((5, 4, 64, 3), np.uint8), 15.0))
        Traceback (most recent call last):
        mmalign.errors.BadSample: x: expected frames of 8 to 1024 pixels a side, got 5 frames of 64 x 4
    """
    frames = clip.frames
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        came = f"{getattr(frames, 'dtype', type(frames).__name__)} values of shape {np.shape(frames)}"
        raise BadSample(source, "uint8 frames of shape (time, height, width, 3)", came)
    check_frame_size(source, *frames.shape[:3], most_frames=MAX_FRAMES, longest=LONG_SIDE)
    check_rate(source, clip.rate)
    if clip.tracks is not None:
        _check_tracks(source, clip.tracks, frames.shape[:3])
    return clip


def check_frame_size(source: object, frames: int, height: int, width: int, *, most_frames: int, longest: int) -> None:
    """Reject clips without frames and frames that are too small or too large.

    Args:
        source: Origin, for messages.
        frames: Their number.
        height: In pixels.
        width: In pixels.
        most_frames: Largest number of frames.
        longest: Largest height and width.

    Raises:
        BadSample: it is one of them.
    """
    shape = f"{frames} frames of {width} x {height}"
    if not 1 <= frames <= most_frames:
        raise BadSample(source, f"1 to {most_frames} frames", str(frames) if frames else "none")
    if not (MIN_SIDE <= height <= longest and MIN_SIDE <= width <= longest):
        raise BadSample(source, f"frames of {MIN_SIDE} to {longest} pixels a side", shape)


def check_rate(source: object, rate: float) -> float:
    """The rate, checked for plausibility.

    Raises:
        BadSample: it is not plausible.
    """
    if not RATES[0] <= rate <= RATES[1]:  # False for NaN
        raise BadSample(source, f"a rate of 1/3600 to {RATES[1]:g} frames a second", f"{rate:g}")
    return float(rate)


def _check_tracks(source: object, tracks: Tracks, shape: tuple[int, ...]) -> None:
    labels, table = tracks.labels, tracks.table
    if labels.dtype != np.int32 or table.dtype != np.int32:
        raise BadSample(source, "labels and a table of int32 ids", f"{labels.dtype} and {table.dtype}")
    if labels.shape != shape:
        raise BadSample(source, f"labels of the frames' shape {shape}", f"shape {labels.shape}")
    if table.ndim != 2 or table.shape[1] != shape[0] or len(table) > MAX_TRACKS:
        raise BadSample(
            source, f"a table of at most {MAX_TRACKS} trajectories in {shape[0]} frames", f"shape {table.shape}"
        )
    if labels.min() < 0 or table.min(initial=0) < 0:
        raise BadSample(source, "ids of at least 0", "a negative one")
    largest = int(table.max(initial=0))
    if labels.max() > largest:
        raise BadSample(source, f"segment ids up to {largest}, the largest of the table", str(labels.max()))
