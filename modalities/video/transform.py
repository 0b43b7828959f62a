"""Clip transform: frames at uniform times in one size, and the map of trajectories in the same frames."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.registry import nearest
from mmalign.types import Inputs
from modalities.common.framing import CROPS, Framing
from modalities.video.augment import View, recoloured
from modalities.video.bounds import sampled
from modalities.video.key_frames import key_frames
from modalities.video.sample import MAX_FRAMES, Clip, Tracks
from modalities.video.trajectories import METHODS, make

Item = dict[str, NDArray[Any]]
Triple = tuple[float, float, float]

TRACKS = ("none", *METHODS)
SAMPLINGS = {"uniform": lambda frames, count: sampled(len(frames), count), "keyframes": key_frames}
CHOICES = {"sampling": tuple(SAMPLINGS), "crop": CROPS, "tracks": TRACKS}
INTEGERS = {
    "frames": (1, MAX_FRAMES),
    "size": (8, 1024),
    "max_tracks": (1, 4096),
    "cell": (1, 64),
    "segments": (1, 4096),
}


@dataclass(frozen=True)
class VideoSettings:
    """Settings of preprocessing and, off by default, training augmentation.

    Args:
        frames: Number of frames of the inputs: the middle of each of as many equal intervals (TrajViT).
        sampling: uniform, or keyframes (the first frame and those at which the colours change most, see `key_frames`).
        size: Side of the square frames, in pixels.
        crop: Handling of frames that are not square: squash (change the aspect ratio), centre (centre crop) or pad
            (black bars).
        mean: Mean of red, green, blue on the scale 0..1, subtracted.
        std: Standard deviation of red, green, blue; divides the values.
        tracks: Origin of the trajectories: none, masks (the clip's own), supervoxels, flow (superpixels linked by
            optical flow) or grid (fixed patches).
        max_tracks: Largest number of trajectories, kept by area times duration; the others join the background.
        cell: Side of one cell of the grid that trajectories are read on, in pixels; divides `size`.
        segments: Requested number of supervoxels or grid tubes.
        random_crop: Smallest fraction of the area that a random crop keeps in training; 1 = no random crop.
        flip: Mirror clips in training with probability one half: not where texts say left and right.
        colour: Strength of random brightness, contrast and saturation in training, 0..1.
    """

    frames: int = 16
    sampling: str = "uniform"
    size: int = 224
    crop: str = "squash"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.25, 0.25, 0.25)
    tracks: str = "none"
    max_tracks: int = 128
    cell: int = 4
    segments: int = 64
    random_crop: float = 1.0
    flip: bool = False
    colour: float = 0.0

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name, (least, most) in INTEGERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise UserError(f"video transform: {name} must be an integer in {least}..{most}, got {value!r}")
        if self.size % self.cell:
            raise UserError(f"video transform: cell must divide size ({self.size}), got {self.cell}")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"video transform: {name} cannot be {value!r}{nearest(str(value), choices)}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise UserError(f"video transform: std must be positive, got {self.std}")
        for name, low in (("random_crop", 0.01), ("colour", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1:
                raise UserError(f"video transform: {name} must be in {low:g}..1, got {value!r}")
        if not isinstance(self.flip, bool):
            raise UserError(f"video transform: flip must be true or false, got {self.flip!r}")

    @staticmethod
    def make(values: Mapping[str, Any]) -> "VideoSettings":
        """Build from a mapping; raises an error for unknown names."""
        return registry.settings(VideoSettings, values, "video transform")


class VideoTransform(Transform):
    """Sample frames, resize, make trajectories and, in training, augment both. Frames stay uint8 until the encoder.

    Args:
        settings: See `VideoSettings`.
        sealed: Loaded from a bundle: an encoder built for it reads no file and no network.

    Shape:
        `Clip` -> features: `frames (time, size, size, 3)` uint8; `mask (time,)`; `times (time,)` in seconds; where
        trajectories are made, `tracks (time, size, size)`, the index of a pixel's trajectory plus 1, 0 in padding.
        A batch: `frames (batch, time, 3, size, size)`; `mask` and `times (batch, time)`; where trajectories are made,
        `segments (batch, time, size / cell, size / cell)` int64: the trajectory at the centre of each cell, 0..M-1
        without gaps in each clip, -1 = none. Frames beyond the end of a short clip repeat its last one; their mask is
        False and their segments are -1.

    Example:
        >>> transform = VideoTransform(VideoSettings(size=32))
        >>> item = transform.item(Clip(np.zeros((12, 48, 64, 3), np.uint8), 8.0))
        >>> transform.collate([item])["frames"].shape, int(item["mask"].sum())
        (torch.Size([1, 16, 3, 32, 32]), 12)
    """

    def __init__(self, settings: VideoSettings, *, sealed: bool = False) -> None:
        self.settings, self.sealed = settings, sealed

    def featurise(self, sample: Clip) -> Item:
        """Sample and resize frames, and make trajectories.

        Raises:
            BadSample: trajectories are to be the clip's own masks, and it has none.
        """
        s = self.settings
        indices = SAMPLINGS[s.sampling](sample.frames, s.frames)
        height, width = sample.frames.shape[1:3]
        framing = Framing.square(height, width, s.size, s.crop)
        padding = (0, s.frames - len(indices))
        frames = np.pad(framing.bilinear(sample.frames[indices]), (padding, *[(0, 0)] * 3), mode="edge")
        times = np.pad(((indices + 0.5) / sample.rate).astype(np.float32), padding, mode="edge")
        mask = np.arange(s.frames) < len(indices)
        item: Item = {"frames": frames, "times": times, "mask": mask}
        if s.tracks == "none":
            return item
        own = None
        if sample.tracks is not None:
            labels = framing.nearest(sample.tracks.labels[indices])
            table = sample.tracks.table[:, indices]
            own = Tracks(np.pad(labels, (padding, (0, 0), (0, 0))), np.pad(table, ((0, 0), padding)))
        tracks = make(frames, mask, method=s.tracks, segments=s.segments, max_tracks=s.max_tracks, tracks=own)
        return {**item, "tracks": tracks.astype(np.int16)}  # at most 4096: half the memory of the cache

    def __call__(self, features: Item, rng: np.random.Generator | None = None) -> Item:
        """Make the item; with `rng`, augmented."""
        s = self.settings
        view, frames = View((0, 0, s.size, s.size)), features["frames"]
        if rng is not None:
            view = View.draw(s.size, rng, random_crop=s.random_crop, flip=s.flip)
            frames = view.frames(frames)
            frames = recoloured(frames, rng, s.colour) if s.colour else frames
        item = {"frames": np.ascontiguousarray(frames), "times": features["times"], "mask": features["mask"]}
        if "tracks" in features:
            item["segments"] = compact(view.labels(features["tracks"], s.size // s.cell))
        return item

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack; the memory stays channels-last, which is fastest for convolutions on a CPU."""
        batch: Inputs = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        return batch | {"frames": batch["frames"].permute(0, 1, 4, 2, 3)}

    def config(self) -> dict[str, Any]:
        """The settings."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.settings).items()
        }


def compact(tracks: NDArray[Any]) -> NDArray[np.int64]:
    """Indices of trajectories without gaps, in the same order: a crop loses some of them.

    Args:
        tracks: Index plus 1, 0 = none, any shape.

    Returns:
        Indices from 0, -1 = none.

    Example:
        >>> compact(np.array([[0, 3], [9, 3]])).tolist()
        [[-1, 0], [1, 0]]
    """
    known = np.unique(tracks)
    known = known[known > 0]
    table: NDArray[np.int64] = np.full(int(tracks.max(initial=0)) + 1, -1, np.int64)
    table[known] = np.arange(len(known))
    return np.take(table, tracks)


def _three(name: str, values: Any) -> Triple:
    """Three numbers; lists come from YAML and JSON."""
    good = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == 3
    if not good or not all(isinstance(value, int | float) and abs(value) < 1e6 for value in values):
        raise UserError(f"video transform: {name} must be three numbers, got {values!r}")
    return float(values[0]), float(values[1]), float(values[2])
