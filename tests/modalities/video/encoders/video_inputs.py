"""Random collated inputs of the video encoders, and a few changes to them."""

from typing import Any

import torch

from mmalign.types import Inputs

CELL = 4


def video_inputs(
    *, batch: int = 2, frames: int = 8, size: int = 32, tracks: int = 5, real: list[int] | None = None, seed: int = 0
) -> Inputs:
    """Random frames; segments are random cells of `tracks` trajectories, a few of no trajectory."""
    draw = torch.Generator().manual_seed(seed)
    counts = torch.tensor(real or [frames] * batch)
    grid = (batch, frames, size // CELL, size // CELL)
    return {
        "frames": torch.randint(0, 256, (batch, frames, 3, size, size), generator=draw, dtype=torch.uint8),
        "mask": torch.arange(frames) < counts[:, None],
        "times": (torch.arange(frames) + 0.5).expand(batch, -1) / 8,
        "segments": torch.randint(-1, tracks, grid, generator=draw),
    }


def rows(inputs: Inputs, *indices: int) -> Inputs:
    """Some clips of a batch."""
    return {name: value[list(indices)] for name, value in inputs.items()}


def reordered(inputs: Inputs, order: list[int]) -> Inputs:
    """The frames in another order, at the same times."""
    return {name: value if name in ("mask", "times") else value[:, order] for name, value in inputs.items()}


def longer(inputs: Inputs, frames: int) -> Inputs:
    """Masked frames added at the end, filled with noise."""
    added: dict[str, Any] = {}
    for name, value in inputs.items():
        extra = value[:, -1:].repeat(1, frames, *[1] * (value.ndim - 2))
        if name == "mask":
            extra = torch.zeros_like(extra)
        elif name == "frames":
            extra = torch.randint(0, 256, extra.shape, dtype=torch.uint8)
        added[name] = torch.cat([value, extra], dim=1)
    return added
