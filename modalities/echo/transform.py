"""Clip transform: a fixed number of frames at one rate and size, masked beyond the end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmalign import registry
from mmalign.errors import UserError
from mmalign.modality import Transform
from mmalign.registry import nearest
from mmalign.types import Inputs
from modalities.common.framing import CROPS, Framing
from modalities.echo.augment import gained, moved
from modalities.echo.sample import RATES, Echo

Item = dict[str, NDArray[Any]]
Triple = tuple[float, float, float]

CHOICES = {"sampling": ("nearest", "linear"), "crop": CROPS, "short": ("pad", "loop")}


@dataclass(frozen=True)
class EchoSettings:
    """Settings of preprocessing and, off by default, training augmentation.

    Args:
        rate: Frames per second of the inputs.
        frames: Number of frames of the inputs; with the default rate 1.07 s, a heart beat. Inference uses the middle of
            a clip, training a random window.
        size: Side of the square frames, in pixels.
        sampling: nearest (the displayed frame at that time) or linear (interpolation of two frames).
        crop: Handling of frames that are not square: pad (black bars), centre (centre crop) or squash (change the
            aspect ratio).
        short: Handling of clips that are too short: pad (repeat the last frame, masked) or loop (start again, not
            masked).
        mean: Mean grey level on the scale 0..1, subtracted; three numbers for encoders of colour images.
        std: Standard deviation; divides the grey levels.
        jitter: Maximum shift of each frame's time in training, as a fraction of the frame interval, 0..0.5.
        shift: Maximum shift of the frames in training, as a fraction of their side.
        rotation: Maximum rotation in training, in degrees.
        gain: Gain augmentation: multiply grey levels by `exp(uniform(-gain, gain))`.
    """

    rate: float = 15.0
    frames: int = 16
    size: int = 112
    sampling: str = "nearest"
    crop: str = "pad"
    short: str = "pad"
    mean: float | Triple = 0.13
    std: float | Triple = 0.2
    jitter: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    gain: float = 0.0

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name, least, most in (("frames", 1, 1024), ("size", 8, 1024)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise UserError(f"echo transform: {name} must be an integer in {least}..{most}, got {value!r}")
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"echo transform: {name} must be in {low:g}..{high:g}, got {value!r}")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"echo transform: {name} cannot be {value!r}{nearest(str(value), choices)}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _levels(name, getattr(self, name)))
        if np.min(self.std) <= 0:
            raise UserError(f"echo transform: std must be positive, got {self.std}")

    @staticmethod
    def make(values: Mapping[str, Any]) -> "EchoSettings":
        """Build from a mapping; raises an error for unknown names."""
        return registry.settings(EchoSettings, values, "echo transform")


BOUNDS = {"rate": RATES, "jitter": (0.0, 0.5), "shift": (0.0, 0.5), "rotation": (0.0, 180.0), "gain": (0.0, 2.0)}


class EchoTransform(Transform):
    """Sample frames by time, resize and, in training, augment. Values stay uint8 until the encoder normalises them.

    Frames are sampled by time, not by index, so that a clip stored at another rate gives the same item up to the
    available frames.

    Args:
        settings: See `EchoSettings`.
        sealed: Loaded from a bundle: an encoder built for it reads no file and no network.

    Shape:
        `Echo` -> item of `frames (time, size, size)` uint8 and `mask (time,)` -> the same with a batch dimension in
        front; mask is True for real frames.

    Example:
        >>> transform = EchoTransform(EchoSettings(size=32))
        >>> item = transform.item(Echo(np.zeros((40, 48, 64), np.uint8), 50.0))
        >>> transform.collate([item])["frames"].shape, int(item["mask"].sum())
        (torch.Size([1, 16, 32, 32]), 12)
    """

    def __init__(self, settings: EchoSettings, *, sealed: bool = False) -> None:
        self.settings, self.sealed = settings, sealed

    def __call__(self, features: Echo, rng: np.random.Generator | None = None) -> Item:
        """Make the item."""
        s = self.settings
        times, mask = self._times(features.seconds, rng)
        _, height, width = features.frames.shape
        framing = Framing.square(height, width, s.size, s.crop)
        frames = framing.bilinear(_at(features, times, s.sampling))
        if rng is not None and (s.shift or s.rotation):
            frames = moved(frames, rng, shift=s.shift, rotation=s.rotation)
        if rng is not None and s.gain:
            frames = gained(frames, rng, s.gain)
        return {"frames": np.ascontiguousarray(frames), "mask": mask}

    def _times(self, seconds: float, rng: np.random.Generator | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Sampling times in seconds from the start of the clip: the midpoints of equal intervals."""
        s = self.settings
        ticks = np.arange(s.frames) + 0.5
        if rng is not None and s.jitter:
            ticks = ticks + rng.uniform(-s.jitter, s.jitter, s.frames)
        spare = seconds - s.frames / s.rate
        start = max(0.0, spare) * (0.5 if rng is None else rng.random())
        times = start + ticks / s.rate
        mask = np.ones(s.frames, bool)
        if spare < 0 and s.short == "pad":
            mask = np.arange(s.frames) < max(1, round(seconds * s.rate))
        return np.mod(times, seconds) if s.short == "loop" else times.clip(0.0, seconds), mask

    def collate(self, items: Sequence[Item]) -> Inputs:
        """Stack."""
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in ("frames", "mask")}

    def config(self) -> dict[str, Any]:
        """The settings."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.settings).items()
        }


class Normalise(nn.Module):
    """Normalise a uint8 batch on the device.

    Shape:
        `(batch, time, size, size)` uint8 -> the same shape, floating point.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, transform: EchoTransform) -> None:
        super().__init__()
        # Not persistent: they belong to the transform, whose config is saved with the weights.
        for name in ("mean", "std"):
            value = 255 * float(np.mean(getattr(transform.settings, name)))
            self.register_buffer(name, torch.tensor(value), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Scale."""
        return (frames.to(self.mean.dtype) - self.mean) / self.std


def _at(sample: Echo, times: NDArray[np.float64], sampling: str) -> NDArray[np.uint8]:
    """The frames at these times; frame i is displayed from `i / rate` to `(i + 1) / rate`."""
    last = len(sample.frames) - 1
    if sampling == "nearest":
        # Times at the border of two frames are rounded consistently.
        positions: NDArray[np.int64] = np.floor(times * sample.rate + 1e-6).astype(np.int64)
        return np.take(sample.frames, positions.clip(0, last), axis=0)
    positions = (times * sample.rate - 0.5).clip(0, last)
    before = np.floor(positions).astype(int)
    weight = (positions - before).astype(np.float32)[:, None, None]
    one, two = (sample.frames[indices].astype(np.float32) for indices in (before, np.minimum(before + 1, last)))
    blended: NDArray[np.float32] = np.rint(one + weight * (two - one))
    return blended.astype(np.uint8)


def _levels(name: str, value: Any) -> float | Triple:
    """One number, or three; lists come from YAML and JSON."""
    numbers = [value] if isinstance(value, int | float) else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) not in (1, 3):
        raise UserError(f"echo transform: {name} must be one number or three, got {value!r}")
    if not all(isinstance(number, int | float) and abs(number) < 1e6 for number in numbers):
        raise UserError(f"echo transform: {name} must be one number or three, got {value!r}")
    return float(numbers[0]) if len(numbers) == 1 else (float(numbers[0]), float(numbers[1]), float(numbers[2]))
