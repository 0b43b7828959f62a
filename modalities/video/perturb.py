"""Perturbations of clips for robustness: dropped frames, lower frame rate, brightness, noise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modalities.video.sample import Clip

PERTURBATIONS: Mapping[str, Sequence[float]] = {
    "dropped_frames": (0.1, 0.25, 0.5, 0.75),
    "frame_rate": (2, 4, 8, 16),
    "brightness": (0.1, 0.2, 0.3, 0.4),
    "noise": (0.04, 0.08, 0.16, 0.32),
}
"""Levels, weakest first: fraction of the frames that repeat the one before, number of frames for which one is shown,
change of brightness (1 = full range; its sign is random), standard deviation of Gaussian noise (1 = full range)."""


def perturb_video(sample: Clip, name: str, level: float, rng: np.random.Generator) -> Clip:
    """Perturb a clip; its duration, and the number of its frames, stay.

    Args:
        sample: The clip; not modified.
        name: One of `PERTURBATIONS`.
        level: In the unit that `PERTURBATIONS` states.
        rng: Source of all randomness.

    Example:
        >>> frames = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
        >>> perturb_video(Clip(frames, 5.0), "frame_rate", 2, np.random.default_rng(0)).frames[:, 0, 0, 0].tolist()
        [0, 0, 2, 2, 4, 4]
    """
    count = len(sample)
    if name in ("dropped_frames", "frame_rate"):
        if name == "frame_rate":
            shown = np.arange(count) // int(level) * int(level)
        else:
            dropped = np.append(False, rng.random(count - 1) < level)  # the first frame has none before it
            shown = np.maximum.accumulate(np.where(dropped, 0, np.arange(count)))
        tracks = None if sample.tracks is None else sample.tracks.at(shown)
        return replace(sample, frames=sample.frames[shown], tracks=tracks)
    if name == "brightness":
        values = sample.frames + 255 * level * rng.choice((-1, 1))
    else:
        values = sample.frames + 255 * level * rng.standard_normal(sample.frames.shape, dtype=np.float32)
    return replace(sample, frames=np.clip(np.round(values), 0, 255).astype(np.uint8))
